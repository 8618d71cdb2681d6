"""Pictures to tensors and back, scaling around a hole, grids: the only place that knows colour ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

R = TypeVar("R")
GAP = 8.0  # a channel is first reduced to this many times the wanted size, by means of whole pixels, which is quick
LARGEST = 1 << 24  # pixels of an array that is taken together with another


def shrink(rgb: np.ndarray, hole: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale a square (s, s, 3) uint8 and its hole (s, s) bool to (size, size, 3) uint8 and (size, size) bool.

    A pixel is hole when any part of it is, and colours under the hole do not bleed into known pixels.
    """
    if len(rgb) == size:
        return rgb, hole
    known = (~hole).astype(np.float32)

    def scaled(channel: int) -> np.ndarray:
        return resize(rgb[..., channel] * known if channel >= 0 else known, size)

    weight, *channels = two_at_once(scaled, range(-1, 3), hole.size)
    colours = np.dstack(channels) / np.where(weight > 0.1, weight, 1)[..., None]  # below it, a pixel is hole anyway
    return colours.round().clip(0, 255).astype(np.uint8), marked_cells(hole, size)


def two_at_once(work: Callable[[int], R], channels: Iterable[int], pixels: int) -> list[R]:
    """Return what `work` makes of each channel of so many pixels, two at once where PyTorch may use two threads.

    Pillow and numpy work on large arrays without Python's lock. Very large ones are taken one by one, for the memory.
    """
    threads = min(2, torch.get_num_threads()) if pixels <= LARGEST else 1
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, channels))


def to_model(rgb: np.ndarray, hole: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """Return a square and its hole, scaled, for the networks: (1, 3, S, S) in [-1, 1] and (1, 1, S, S), 1 = hole."""
    low, low_hole = shrink(rgb, hole, size)
    return to_tensor(low), torch.from_numpy(low_hole)[None, None].float()


def resize(channel: np.ndarray, size: int) -> np.ndarray:
    """Scale one float32 channel to (size, size)."""
    return np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=GAP))


def marked_cells(hole: np.ndarray, size: int) -> np.ndarray:
    """Scale a hole, bool (s, s), to (size, size): a pixel is hole where any whose middle it contains is."""
    scale = len(hole) / size
    first = ((np.arange(size) + 0.5) * scale - max(scale, 1) / 2 + 0.5).astype(int)
    stops = np.append(first[1:], len(hole)).clip(first + 1)
    for _ in range(2):  # rows, then columns
        hole = np.stack([hole[a:b].any(0) for a, b in zip(first, stops, strict=True)], 1)
    return hole


def enlarge(picture: np.ndarray, size: int, rows: slice, columns: slice) -> np.ndarray:
    """Scale float32 (s, s, C) to (size, size, C), smoothly; return some rows and columns of that: (h, w, C)."""
    scale = len(picture) / size
    box = columns.start * scale, rows.start * scale, columns.stop * scale, rows.stop * scale
    shape = columns.stop - columns.start, rows.stop - rows.start
    result = np.empty((shape[1], shape[0], picture.shape[2]), np.float32)
    for k in range(picture.shape[2]):
        result[..., k] = np.asarray(Image.fromarray(picture[..., k]).resize(shape, Image.Resampling.BICUBIC, box))
    return result


def to_tensor(picture: np.ndarray) -> Tensor:
    """Scale uint8 (H, W, 3) or (N, H, W, 3) to float32 (1 or N, 3, H, W) in [-1, 1]."""
    batch = picture if picture.ndim == 4 else picture[None]
    return torch.from_numpy(np.require(batch, requirements=["C", "W"])).permute(0, 3, 1, 2).float() / 127.5 - 1


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
