"""Where to look: squares around the holes of a photo of any size and shape, each with enough of what is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from manifill.config import Fit

LONG = 4  # a square is at most so many times as long as the photo's shorter side: its area is in proportion to it
MOST, AREA = 512, 8  # squares that one hole is completed in, and their area together, in times the photo's
COARSE = 64  # squares in a strip, longer than LONG, and for a pattern
PATTERN = 10_000  # a hole of more parts is a pattern, such as dithering: no square shows what is around it
SMALL = 1 << 22  # pixels of a square that are never too many
WHOLE = 4  # a square photo up to this many times the model's size is taken whole: it is framed as in training


@dataclass(frozen=True)
class Crop:
    """A square of the photo, beyond whose borders it may reach, and which of the hole's pixels it fills.

    `own` bool (h, w) lies at `rows`, `columns` of the photo: its part of the square, or of the rectangle around it if
    the square is turned. `angle` in degrees turns it around its middle, clockwise as seen. `face` says that it holds a
    face as training had it.
    """

    top: int
    left: int
    side: int
    rows: slice
    columns: slice
    own: np.ndarray
    angle: float = 0.0
    face: bool = False

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return this square of (H, W, ...), mirrored where it reaches beyond the border: (side, side, ...)."""
        return self.square(array[self.rows, self.columns])

    def square(self, part: np.ndarray) -> np.ndarray:
        """Return the same of the square's part of the photo (h, w, ...): bool, or uint8 if it is turned.

        In a turned square, a pixel that a marked one has any part in is marked.
        """
        if self.angle:
            return self._turned(part)
        if part.shape[:2] == (self.side, self.side):
            return part
        rows = mirrored(self.top - self.rows.start, self.side, part.shape[0])
        return part[rows][:, mirrored(self.left - self.columns.start, self.side, part.shape[1])]

    def _turned(self, part: np.ndarray) -> np.ndarray:
        """Return the square of its part of the photo when it is turned."""
        import cv2

        marks = part.dtype == np.bool_
        # cubic interpolation reads two pixels on all sides: marked ones must not reach into others' colours
        values = cv2.dilate(part.astype(np.uint8) * 255, np.ones((3, 3), np.uint8)) if marks else part
        flags = (cv2.INTER_LINEAR if marks else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP
        size = (self.side, self.side)
        square = cv2.warpAffine(values, self._to_part(), size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        return square > 0 if marks else square

    def _to_part(self) -> np.ndarray:
        """Return the affine map (2, 3) of a pixel (x, y) of the square to its place in its part of the photo."""
        turn = np.deg2rad(self.angle)
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = (self.side - 1) / 2
        place = np.array([self.left - self.columns.start, self.top - self.rows.start]) + middle
        return np.hstack([linear, (place - linear @ [middle, middle])[:, None]])

    def back(self, square: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Return some rows and columns of the photo of a turned square, float32 (side, side, C): its inverse."""
        import cv2

        to_photo = self._to_part()
        to_photo[:, 2] += self.columns.start - columns.start, self.rows.start - rows.start
        size = (columns.stop - columns.start, rows.stop - rows.start)
        return cv2.warpAffine(square, to_photo, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    def box(self) -> Region:
        """Return the smallest rectangle of the photo that holds all this crop fills."""
        rows, columns = bounds(self.own)
        y, x = self.rows.start, self.columns.start
        return slice(y + rows.start, y + rows.stop), slice(x + columns.start, x + columns.stop)

    def owned(self, rows: slice, columns: slice) -> np.ndarray:
        """Return which of some of its pixels, given in the photo, this crop fills: bool (h, w)."""
        y, x = self.rows.start, self.columns.start
        return self.own[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]

    def overlaps(self, other: Crop) -> bool:
        """Say whether this square, mirrored parts included, can see pixels that `other` fills."""
        meeting = meet((self.rows, self.columns), (other.rows, other.columns))
        return meeting is not None and bool(other.own[meeting[1]].any())

    def remove_own(self, unknown: np.ndarray, crop: Crop) -> None:
        """Clear what this crop has filled in `unknown`, bool (h, w), the hole in another crop."""
        meeting = meet((self.rows, self.columns), (crop.rows, crop.columns))
        if meeting is not None:
            unknown[meeting[1]] &= ~self.own[meeting[0]]


Region: TypeAlias = tuple[slice, slice]


def bounds(which: np.ndarray) -> Region:
    """Return the smallest rectangle that holds all that is True of an array (H, W) that is not all False."""
    (top, bottom), (left, right) = (np.flatnonzero(which.any(axis))[[0, -1]].tolist() for axis in (1, 0))
    return slice(top, bottom + 1), slice(left, right + 1)


def around_parts(hole: np.ndarray) -> Region:
    """Return a rectangle that holds all of a hole, bool (H, W): a large photo is mostly none.

    It begins at even pixels: OpenCV numbers connected parts by blocks of 2x2, so that they are numbered as in all of
    the photo. There is a column before the hole wherever there is one.
    """
    top, left = (max(0, s.start - 1) // 2 * 2 for s in bounds(hole))
    bottom, right = (s.stop for s in bounds(hole))
    return slice(top, bottom), slice(left, right)


def meet(a: Region, b: Region) -> tuple[Region, Region] | None:
    """Return where two rectangles of a photo meet, seen from each, or None."""
    spans = []
    for one, other in zip(a, b, strict=True):
        start, stop = max(one.start, other.start), min(one.stop, other.stop)
        if start >= stop:
            return None
        spans.append((slice(start - one.start, stop - one.start), slice(start - other.start, stop - other.start)))
    (rows_a, rows_b), (columns_a, columns_b) = spans
    return (rows_a, columns_a), (rows_b, columns_b)


def mirrored(start: int, count: int, size: int) -> np.ndarray:
    """Return the indices start, start + 1, ... folded back into [0, size) at the borders, again and again."""
    folded = np.arange(start, start + count) % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def square_at(top: int, left: int, side: int, hole: np.ndarray) -> Crop:
    """Return the crop of a square that fills all of the hole in it."""
    h, w = hole.shape
    rows = slice(max(top, 0), min(top + side, h))
    columns = slice(max(left, 0), min(left + side, w))
    return Crop(top, left, side, rows, columns, hole[rows, columns])


def turned_square(x: float, y: float, side: int, angle: float, hole: np.ndarray) -> Crop:
    """Return the crop of a square around the point (x, y) that is turned by `angle` degrees; it fills all in it."""
    top, left = round(y - side / 2), round(x - side / 2)
    if not angle:
        return square_at(top, left, side, hole)
    h, w = hole.shape
    turn, middle = np.deg2rad(angle), np.array([left, top]) + side / 2
    reach = side / 2 * (abs(np.cos(turn)) + abs(np.sin(turn))) + 3  # 3: what interpolation reads
    (x0, y0), (x1, y1) = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
    rows, columns = slice(max(y0, 0), min(y1, h)), slice(max(x0, 0), min(x1, w))
    ys, xs = (np.arange(s.start, s.stop) + 0.5 - m for s, m in ((rows, middle[1]), (columns, middle[0])))
    along = xs[None] * np.cos(turn) + ys[:, None] * np.sin(turn)
    across = ys[:, None] * np.cos(turn) - xs[None] * np.sin(turn)
    inside = np.maximum(abs(along), abs(across)) <= side / 2
    return Crop(top, left, side, rows, columns, hole[rows, columns] & inside, angle)


def plan(hole: np.ndarray, size: int, fit: Fit) -> list[Crop]:
    """Return the crops that together fill a hole, bool (H, W), in the order in which they are to be completed.

    `size` is the model's. Small crops come first, so that larger ones see their results. Raises ValueError for a photo
    so long and narrow that squares of it would be much larger than itself.
    """
    h, w = hole.shape
    if fit.strategy == "resize" or (fit.strategy == "auto" and h == w <= WHOLE * size):
        side = check_side(max(h, w), hole.shape)
        return [square_at((h - side) // 2, (w - side) // 2, side, hole)]
    if fit.strategy == "original":
        return list(tiles(hole, size))
    parts, scale = Parts.of(hole), 1
    most = MOST if parts is not None and max(h, w) <= LONG * min(h, w) else COARSE
    while True:  # larger squares where there would be too many
        crops, area = [], 0
        found = tiles(hole, size * scale, 3) if parts is None else around(parts, hole, size, fit.crop_margin, scale)
        for crop in found:
            crops.append(crop)
            area += crop.own.size
            if len(crops) > most or area > AREA * max(hole.size, SMALL):
                break
        else:
            return sorted(crops, key=lambda c: c.side)
        scale *= 2
        check_side(size * scale, hole.shape)


def check_side(side: int, shape: tuple[int, ...]) -> int:
    """Return the side of a square of a photo of this shape (H, W). Raises ValueError for too large a one."""
    if side * side > max(LONG * shape[0] * shape[1], SMALL):
        found = f"{shape[1]}x{shape[0]} pixels"
        raise ValueError(
            f"{found} are too long and narrow to be completed in squares of {side}x{side}; cut it into parts"
        )
    return side


def tiles(hole: np.ndarray, size: int, quarters: int = 2) -> Iterator[Crop]:
    """Cover a hole by squares of one size, each filling its middle `quarters`: half of it is what "original" does."""
    h, w = hole.shape
    rows, columns = bounds(hole)
    step = size * quarters // 4
    for y in range(rows.start, rows.stop, step):
        for x in range(columns.start, columns.stop, step):
            part = hole[y : y + step, x : x + step]
            if part.any():
                rim = (size - step) // 2
                top, left = move_inside(y - rim, size, h), move_inside(x - rim, size, w)
                whole = square_at(top, left, size, hole)
                own = np.zeros_like(whole.own)
                at = (
                    slice(y - whole.rows.start, y - whole.rows.start + part.shape[0]),
                    slice(x - whole.columns.start, x - whole.columns.start + part.shape[1]),
                )
                own[at] = part
                yield Crop(top, left, size, whole.rows, whole.columns, own)


@dataclass(frozen=True)
class Parts:
    """The connected parts of a hole: `labels` int32 (H, W), 0 outside, and the box of part k, int64 (N) each."""

    labels: np.ndarray
    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray

    @staticmethod
    def of(hole: np.ndarray) -> Parts | None:
        """Return those of a hole, bool (H, W), None where it is a pattern of more than PATTERN."""
        import cv2

        rows, columns = box = around_parts(hole)
        own, labels = hole[box], np.zeros(hole.shape, np.int32)
        runs = np.count_nonzero(own[:, 1:] & ~own[:, :-1])  # not fewer than parts, but for those at the left edge
        if runs > 16 * PATTERN and cv2.connectedComponents(own.astype(np.uint8), connectivity=8)[0] > PATTERN:
            return None  # known before their boxes take memory
        _, labels[box], boxes, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=8)
        if len(boxes) - 1 > PATTERN:
            return None
        left, top, width, height = (boxes[1:, k].astype(np.int64) for k in range(4))
        return Parts(labels, top + rows.start, left + columns.start, height, width)

    def stretches(self, k: int, longest: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield part k as boxes (top, left, height, width): one or, where it is longer than `longest`, several.

        They are alike from either end, and half of `longest` long at most.
        """
        top, left, height, width = (int(x[k]) for x in (self.top, self.left, self.height, self.width))
        if max(height, width) <= longest:
            yield top, left, height, width
            return
        extent = max(height, width)
        count = -(-extent // (longest // 2))
        cuts = [k * extent // count if 2 * k <= count else extent - (count - k) * extent // count for k in range(count)]
        for at, end in pairwise([*cuts, extent]):
            yield (top + at, left, end - at, width) if height > width else (top, left + at, height, end - at)


def around(parts: Parts, hole: np.ndarray, size: int, margin: int | None, scale: int = 1) -> Iterator[Crop]:
    """Cut a square around the largest connected hole, with all others that lie in it, then around the next largest.

    Squares are `scale` times as large as the model at least. A part that is longer than LONG times the photo's shorter
    side is cut into stretches with a square each.
    """
    largest = math.isqrt(max(LONG * hole.size, SMALL))
    longest = max(size * scale, min(LONG * min(hole.shape) * scale, largest))
    waiting = np.ones(len(parts.top), np.bool_)
    for k in np.argsort(-np.maximum(parts.width, parts.height), kind="stable"):
        if not waiting[k]:
            continue
        waiting[k] = False
        for box in parts.stretches(int(k), longest):
            y, x, side = frame(box, hole.shape, size, margin, longest, scale)
            crop = square_at(y, x, side, hole)
            inside = within(parts.top, parts.height, y, side, hole.shape[0])
            together = waiting & inside & within(parts.left, parts.width, x, side, hole.shape[1])
            waiting &= ~together
            labels = parts.labels[crop.rows, crop.columns]
            own = np.zeros(labels.shape, np.bool_)
            at = (
                slice(box[0] - crop.rows.start, box[0] + box[2] - crop.rows.start),
                slice(box[1] - crop.columns.start, box[1] + box[3] - crop.columns.start),
            )
            own[at] = labels[at] == k + 1
            if together.any():
                own |= np.concatenate([[False], together])[labels]
            yield Crop(y, x, side, crop.rows, crop.columns, own)


def within(start: np.ndarray, length: np.ndarray, at: int, side: int, size: int) -> np.ndarray:
    """Say which stretches lie in [at, at + side) with some context on either side, but where the photo ends."""
    rim = side // 16
    low, high = (at + rim if at > 0 else 0), (at + side - rim if at + side < size else size)
    return (low <= start) & (start + length <= high)


def frame(
    box: tuple[int, int, int, int], shape: tuple[int, ...], size: int, margin: int | None, longest: int, scale: int = 1
) -> tuple[int, int, int]:
    """Return (top, left, side) of the square around a box (top, left, height, width), inside the photo if it can be.

    The box is `longest` pixels long at most, and so is the square.
    """
    top, left, height, width = box
    extent, short, long = max(height, width), min(shape[:2]), max(shape[:2])
    side = max(size * scale, extent + 2 * (-(-extent // 2) if margin is None else margin))
    if side > short:  # rather less context than none of the photo, rather mirrored context than none at all
        inside = 4 * extent <= 3 * short and (scale == 1 or size * scale <= short)
        side = short if inside else max(short, min(side, long))
    side = min(max(side, extent), longest)
    y, x = top + height // 2 - side // 2, left + width // 2 - side // 2
    return move_inside(y, side, shape[0]), move_inside(x, side, shape[1]), side


def move_inside(start: int, side: int, size: int) -> int:
    """Move a stretch of `side` that begins at `start` into [0, size), or centre it there when it is longer."""
    return min(max(start, 0), size - side) if side <= size else (size - side) // 2


def dilated(hole: np.ndarray, pixels: int) -> np.ndarray:
    """Grow a hole by a disc of so many pixels: bool (H, W)."""
    if pixels == 0:
        return hole
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return cv2.dilate(hole.astype(np.uint8), disc).astype(np.bool_)
