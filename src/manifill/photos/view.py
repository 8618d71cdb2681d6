"""What the networks see of a crop, and how what they paint goes back into the photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from manifill.config import Fit
from manifill.photos.crops import Crop, Region, meet
from manifill.photos.detail import Border, Membrane, Residual, detail_sources, fading, gains, settled
from manifill.photos.tensors import enlarge, marked_cells, shrink, to_model, to_tensor


@dataclass(frozen=True)
class Patch:
    """New pixels at `rows`, `columns` of a photo where `which`, bool (h, w), says.

    `rgb` uint8 (h, w, 3) is what the networks see of them, `samples` (h, w, ...) what the photo stores.
    """

    rows: slice
    columns: slice
    which: np.ndarray
    rgb: np.ndarray
    samples: np.ndarray

    def put(self, array: np.ndarray, rows: slice, columns: slice) -> None:
        """Put the colours into the part of the photo that `array` (h, w, 3) is, where they meet."""
        meeting = meet((self.rows, self.columns), (rows, columns))
        if meeting is not None:
            here, there = meeting
            overlay(array[there], self.rgb[here], self.which[here])

    def remove(self, unknown: np.ndarray, rows: slice, columns: slice) -> None:
        """Clear these pixels in the part of a hole that `unknown`, bool (h, w), is, where they meet."""
        meeting = meet((self.rows, self.columns), (rows, columns))
        if meeting is not None:
            unknown[meeting[1]] &= ~self.which[meeting[0]]


def overlay(below: np.ndarray, above: np.ndarray, which: np.ndarray) -> None:
    """Replace pixels of an array (h, w) or (h, w, C) where `which`, bool (h, w), says."""
    np.copyto(below, above, where=which if below.ndim == 2 else which[..., None])


def retouched(samples: np.ndarray, patches: Sequence[Patch], part: Region | None = None) -> np.ndarray:
    """Return a copy of a photo's samples, or of a part of it, with patches put in, one after another."""
    part = part or whole(samples)
    result = samples[part].copy()
    for p in patches:
        if meeting := meet((p.rows, p.columns), part):
            here, there = meeting
            overlay(result[there], p.samples[here], p.which[here])
    return result


def recoloured(rgb: np.ndarray, patches: Sequence[Patch], part: Region | None = None) -> np.ndarray:
    """Return the same of what the networks see of a photo, uint8 (H, W, 3)."""
    part = part or whole(rgb)
    result = rgb[part].copy()
    for p in patches:
        p.put(result, *part)
    return result


def whole(array: np.ndarray) -> Region:
    """Return all rows and columns of a photo (H, W, ...)."""
    return slice(0, array.shape[0]), slice(0, array.shape[1])


def unmasked(crop: Crop, rgb: np.ndarray, hole: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """Return a crop of a photo (H, W, 3) as it was given, (1, 3, S, S), and its hole, (1, 1, S, S)."""
    square, own = crop.cut(rgb), crop.cut(hole)
    low, _ = shrink(square, np.zeros_like(own), size)
    return to_tensor(low), torch.from_numpy(marked_cells(own, size))[None, None].float()


class View:
    """A crop at the model's size: `image` (1, 3, S, S) in [-1, 1] and `mask` (1, 1, S, S), 1 in the hole."""

    def __init__(self, crop: Crop, look: Callable[[], np.ndarray], hole: np.ndarray, size: int) -> None:
        """Take what returns the crop's part of the photo, uint8 (h, w, 3), and what is unknown in it, bool (h, w)."""
        self.crop, self.look, self.size, self.cells = crop, look, size, size // 8
        self.hole = crop.square(hole)
        self.low, self.low_hole = shrink(crop.square(look()), self.hole, size)
        self.image, self.mask = to_model(self.low, self.low_hole, size)

    def shrunk(self, region: np.ndarray) -> np.ndarray:
        """Return a region of the photo, bool (H, W), in this view, bool (S, S): where any part of a pixel is."""
        return marked_cells(self.crop.cut(region), self.size)

    @cached_property
    def residual(self) -> Residual:
        """The details that scaling down has taken, as large as the crop."""
        return Residual(self.crop.square(self.look()), self.hole, self.low, self.cells)

    def forget(self) -> None:
        """Let go of what is large and can be made again."""
        self.__dict__.pop("residual", None)

    @cached_property
    def membrane(self) -> Membrane:
        """The solver for this hole."""
        return Membrane(self.low_hole)

    @cached_property
    def border(self) -> Border:
        """What colours are missed along the border of this hole."""
        return Border(self.low, self.low_hole)

    @cached_property
    def ground(self) -> tuple[np.ndarray, np.ndarray]:
        """The photo's colours continued into the hole, (S, S, 3), and how flat it is around there, (S, S, 1)."""
        inside = self.membrane(np.concatenate([self.border.photo, self.border.flat], 2))
        return inside[..., :3], inside[..., 3:]

    def finish(self, painted: np.ndarray, structure: Tensor, fuse: bool, fit: Fit) -> np.ndarray:
        """Return what was painted at the photo's size, in the crop's box: float32 (h, w, 3) in about [0, 255].

        `painted` float32 (S, S, 3) in the same range; `structure` (1, D, h, w) its structure, which says where details
        come from; `fuse` as in the texture generator.
        """
        crop = self.crop
        if crop.angle:
            return crop.back(
                self.finished(painted, structure, fuse, fit, slice(0, crop.side), slice(0, crop.side)), *crop.box()
            )
        rows, columns = (
            slice(s.start - first, s.stop - first) for s, first in zip(crop.box(), (crop.top, crop.left), strict=True)
        )
        return self.finished(painted, structure, fuse, fit, rows, columns)

    def finished(
        self, painted: np.ndarray, structure: Tensor, fuse: bool, fit: Fit, rows: slice, columns: slice
    ) -> np.ndarray:
        """Return the same in some rows and columns of the square, at its size in the photo."""
        crop = self.crop
        correction = self.correction(painted, fit)
        full = self.full(painted, rows, columns)
        if correction is not None:
            ramp = fading(self.hole, fit.feather)[rows, columns, None] if fit.feather else 1
            full = full + self.full(correction, rows, columns) * ramp
        coarse = self.low_hole.reshape(self.cells, 8, self.cells, 8).max((1, 3))
        if fit.detail and crop.side > self.size and not coarse.all():
            which, shares = detail_sources(structure, coarse, fuse)
            completed = np.where(self.low_hole[..., None], painted, self.low).astype(np.float32)
            shares *= gains(completed, which, self.cells)
            full = full + self.residual.carried(which, shares, (rows, columns))
        return full

    def full(self, picture: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Scale a picture of the model's size to the crop's and return some rows and columns of it."""
        if self.crop.side == self.size:
            return picture[rows, columns]
        return enlarge(picture, self.crop.side, rows, columns)

    def correction(self, painted: np.ndarray, fit: Fit) -> np.ndarray | None:
        """Return what brings the painted colours to those around the hole, float32 (S, S, 3); None when unwanted."""
        if not (fit.seamless or fit.feather):
            return None
        inside = settled(painted + self.membrane(self.border(painted)), *self.ground)
        return (np.where(self.low_hole[..., None], inside, self.low) - painted).astype(np.float32)
