"""TensorBoard (extra `tensorboard`): the figures of metrics.jsonl and the preview pictures, as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Board:
    """Writes event files into `folder` for steps after `start`; what an interrupted run wrote of those is dropped.

    Raises ValueError when TensorBoard is not installed.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.writer = writer_class()(str(folder), purge_step=start + 1)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def figures(self, line: Mapping[str, Any]) -> None:
        """Write a line of metrics.jsonl; val_... become val/..., all others train/..."""
        step = line["step"]
        for key, value in line.items():
            if key == "step":
                continue
            place, name = ("val", key.removeprefix("val_")) if key.startswith("val_") else ("train", key)
            self.writer.add_scalar(f"{place}/{name}", value, step)

    def picture(self, step: int, picture: Image.Image) -> None:
        """Write the preview of the fixed pictures, and all that was written so far to the disk."""
        self.writer.add_image("preview", np.asarray(picture), step, dataformats="HWC")
        self.writer.flush()


def writer_class() -> Any:
    """Return PyTorch's writer. Raises ValueError when TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard needs TensorBoard: pip install 'manifill[tensorboard]'") from error
    return SummaryWriter
