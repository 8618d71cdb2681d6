"""Training masks, made on the fly (section 4.1): (1, size, size) float32, 1 = hole. Lengths scale with size / 256."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from manifill.data.shapes import anything


def centre(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the square of half the side in the middle."""
    return _box(size, size // 4, size // 4)


def centre_mask(image: Tensor) -> Tensor:
    """Return the centre mask of validation for pictures (N, 3, S, S): (N, 1, S, S) float32, on their device."""
    mask = torch.from_numpy(centre(image.shape[-1], np.random.default_rng(0)))
    return mask.to(image.device).expand(len(image), 1, -1, -1)


def rectangle(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a square of half the side at a random place."""
    top, left = rng.integers(0, size - size // 2 + 1, 2)
    return _box(size, int(top), int(left))


def _box(size: int, top: int, left: int) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[top : top + size // 2, left : left + size // 2] = 1
    return mask


def brush(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return 1 to 3 brush strokes of 4 to 11 turns, 12 to 40 pixels wide at 256."""
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 4)):
        _stroke(draw, size, rng)
    return np.asarray(picture, np.float32)


def _stroke(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    reach = math.hypot(size, size) / 8  # mean length of a segment
    turns = int(rng.integers(4, 12))
    angles = rng.uniform(2 * math.pi / 5 - 2 * math.pi / 15, 2 * math.pi / 5 + 2 * math.pi / 15, turns)
    angles[::2] = 2 * math.pi - angles[::2]  # every other turn is mirrored, so a stroke zigzags
    width = max(1, round(rng.uniform(12, 40) * size / 256))
    points = [rng.uniform(0, size, 2)]
    for angle in angles:
        length = float(np.clip(rng.normal(reach, reach / 2), 0, 2 * reach))
        step = np.array([math.cos(angle), math.sin(angle)]) * length
        points.append(np.clip(points[-1] + step, 0, size))
    flat = [tuple(float(v) for v in p) for p in points]
    draw.line(flat, fill=1, width=width)
    for x, y in flat:  # round joints and ends
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)


Kind = Callable[[int, np.random.Generator], np.ndarray]
KINDS: dict[str, Kind] = {
    "centre": centre,
    "rectangle": rectangle,
    "brush": brush,
    "any": partial(anything, stroke=_stroke),
}


def draw(kinds: Sequence[str | Kind], count: int, size: int, rng: np.random.Generator) -> Tensor:
    """Draw `count` masks, each of one of `kinds`, a name or a function, with equal chance: (count, 1, size, size)."""
    chosen = [kinds[int(i)] for i in rng.integers(0, len(kinds), count)]
    found = [(KINDS[kind] if isinstance(kind, str) else kind)(size, rng) for kind in chosen]
    return torch.from_numpy(np.stack(found)[:, None])
