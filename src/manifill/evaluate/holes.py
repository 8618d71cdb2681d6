"""Random numbers that no version changes, and shapes drawn with them: what the masks of protocols are made of."""

from __future__ import annotations

import hashlib
import math

import numpy as np

UNITS = 256


class Dice:
    """Random numbers of mask `index` of a protocol: Philox keyed by (protocol, index), used raw.

    NumPy keeps the raw stream of a bit generator from version to version, and not what a Generator makes of it.
    """

    def __init__(self, protocol: str, index: int) -> None:
        key = hashlib.sha256(f"{protocol}/{index}".encode()).digest()[:16]
        self.index = index
        self._bits = np.random.Philox(key=int.from_bytes(key, "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """Return one of low, ..., high."""
        return low + int(self.uniform() * (high - low + 1))

    def normal(self, mean: float, deviation: float) -> float:
        """Return a number of the normal distribution (Box and Muller)."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return mean + deviation * radius * math.cos(2 * math.pi * self.uniform())

    def point(self) -> tuple[float, float]:
        """Return a place (x, y) in the picture, in whole units."""
        return float(self.integer(0, UNITS - 1)), float(self.integer(0, UNITS - 1))


def pixel_span(low: float, high: float, size: int) -> slice:
    """Return the pixels whose centres lie in [low, high) units."""
    first, last = (math.ceil(v * size / UNITS - 0.5) for v in (low, high))
    return slice(max(first, 0), max(min(last, size), 0))


def open_box(hole: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    """Open a box of units."""
    hole[pixel_span(top, top + height, len(hole)), pixel_span(left, left + width, len(hole))] = True


def segment(hole: np.ndarray, a: tuple[float, float], b: tuple[float, float], width: float) -> None:
    """Open everything within half a width, a pixel at least, of the line between points (x, y)."""
    size = len(hole)
    radius = max(width, UNITS / size) / 2
    rows = pixel_span(min(a[1], b[1]) - radius, max(a[1], b[1]) + radius, size)
    columns = pixel_span(min(a[0], b[0]) - radius, max(a[0], b[0]) + radius, size)
    y = (np.arange(rows.start, rows.stop)[:, None] + 0.5) * UNITS / size - a[1]
    x = (np.arange(columns.start, columns.stop) + 0.5) * UNITS / size - a[0]
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip((x * dx + y * dy) / ((dx * dx + dy * dy) or 1.0), 0, 1)
    hole[rows, columns] |= (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius * radius


def moved(point: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
    """Return the point `length` further, kept inside; whole units, so that no machine rounds it another way."""
    x, y = point[0] + length * math.cos(angle), point[1] + length * math.sin(angle)
    return float(round(min(max(x, 0), UNITS))), float(round(min(max(y, 0), UNITS)))
