"""Photos and masks to tensors and back: the only place that knows colour ranges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(picture: np.ndarray) -> Tensor:
    """Scale uint8 (H, W, 3) or (N, H, W, 3) to float32 (1 or N, 3, H, W) in [-1, 1]."""
    batch = picture if picture.ndim == 4 else picture[None]
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """Round (N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3); values outside are clamped."""
    scaled = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def grid(columns: Sequence[np.ndarray], gap: int = 2) -> Image.Image:
    """Lay out columns, each uint8 (N, H, W, 3), as one picture of N rows on white."""
    n, h, w, _ = columns[0].shape
    sheet = np.full((n * (h + gap) + gap, len(columns) * (w + gap) + gap, 3), 255, np.uint8)
    for j, column in enumerate(columns):
        for i, picture in enumerate(column):
            y, x = gap + i * (h + gap), gap + j * (w + gap)
            sheet[y : y + h, x : x + w] = picture
    return Image.fromarray(sheet)
