"""Holes of all shapes and sizes, as users paint them: what is not among the paper's masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

Shape: TypeAlias = Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None]


def anything(size: int, rng: np.random.Generator, stroke: Shape) -> np.ndarray:
    """Return strokes, boxes, ellipses and polygons until a fraction of the picture, from 0.05 to 0.9, is hole.

    Float32 (size, size), 1 = hole; `stroke` draws one of the paper's brush strokes.
    """
    wanted = rng.uniform(0.05, 0.9) * size * size
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    shapes = (stroke, _rectangle, _ellipse, _polygon)
    while np.count_nonzero(np.asarray(picture)) < wanted:
        shapes[rng.integers(len(shapes))](draw, size, rng)
    return np.asarray(picture, np.float32)


def _rectangle(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    draw.rectangle(_corners(size, rng), fill=1)


def _ellipse(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    draw.ellipse(_corners(size, rng), fill=1)


def _corners(size: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a shape with its middle in the picture and sides of 1/16 to 1/2 of it."""
    (x, y), (width, height) = rng.uniform(0, size, 2), rng.uniform(size / 16, size / 2, 2)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _polygon(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """Draw a star-shaped polygon of 3 to 9 corners."""
    centre, corners = rng.uniform(0, size, 2), int(rng.integers(3, 10))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    radii = rng.uniform(size / 16, size / 3, corners)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    draw.polygon([(float(x), float(y)) for x, y in points], fill=1)
