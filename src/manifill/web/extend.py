"""Photos with room at their sides, to be filled: the picture goes on beyond its borders (outpainting)."""

from __future__ import annotations

import dataclasses

import numpy as np

from manifill.photos.decode import Opened
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo
from manifill.web.limits import Limits, RefusedError

Sides = tuple[int, int, int, int]  # pixels added at the left, top, right and bottom


def extend(
    photo: Photo, mask: Opened | None, sides: Sides, limits: Limits, invert: bool = False
) -> tuple[Photo, np.ndarray]:
    """Return a photo with `sides` added, and its hole, bool (H, W): what is added and what `mask` says.

    The mask is as large as the photo before or after; the warnings about it are in the photo's notes. Raises
    RefusedError for sides of more than half of the photo's width or height, for too many pixels and for a mask of
    another size, ImageError for a mask that cannot be understood.
    """
    height, width = photo.rgb.shape[:2]
    left, top, right, bottom = sides
    if max(left, right) > width // 2 or max(top, bottom) > height // 2:
        raise RefusedError(422, f"a side grows by at most half of the photo; this one has {width}x{height} pixels")
    whole = (width + left + right, height + top + bottom)
    if whole[0] * whole[1] > limits.pixels:
        found = f"the extended photo has {whole[0]}x{whole[1]} pixels"
        raise RefusedError(413, f"{found}; this server takes {limits.pixels} in all")

    def grown(pixels: np.ndarray) -> np.ndarray:
        return np.pad(pixels, ((top, bottom), (left, right), *[(0, 0)] * (pixels.ndim - 2)))

    alpha = None if photo.alpha is None else grown(photo.alpha)
    larger = dataclasses.replace(photo, samples=grown(photo.samples), rgb=grown(photo.rgb), alpha=alpha)
    hole, notes = ~grown(np.ones((height, width), np.bool_)), list(photo.notes)
    if mask is not None:
        h, w = mask.shape
        if (w, h) not in ((width, height), whole):
            raise RefusedError(422, f"the mask has {w}x{h} pixels; expected {whole[0]}x{whole[1]}")
        own = load_mask(mask, larger if (w, h) == whole else photo, invert, notes)
        hole |= own if (w, h) == whole else grown(own)
    return dataclasses.replace(larger, notes=tuple(notes)), hole
