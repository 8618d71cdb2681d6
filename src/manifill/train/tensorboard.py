"""TensorBoard (extra `tensorboard`): the figures of metrics.jsonl, as training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def board(folder: Path, start: int) -> Any:
    """Return PyTorch's writer of events after step `start`; what an interrupted run wrote of those is dropped.

    Raises ValueError when TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard needs TensorBoard: pip install 'manifill[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=start + 1)


def add_figures(writer: Any, line: Mapping[str, Any]) -> None:
    """Write a line of metrics.jsonl; val_... become val/..., all others train/..."""
    for key, value in line.items():
        place = "val" if key.startswith("val_") else "train"
        if key != "step":
            writer.add_scalar(f"{place}/{key.removeprefix('val_')}", value, line["step"])
