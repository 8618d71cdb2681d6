"""Masks as people bring them: white is the hole, whatever the file; without one, where the photo is transparent."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image

from manifill.photos.photo import ImageError, Photo, Picture, open_picture, upright


def load_mask(source: Picture | None, photo: Photo, invert: bool = False) -> np.ndarray:
    """Return the hole as bool (H, W): white is hole; without a mask, where the photo is transparent.

    A mask of another size is scaled to the photo's, by the nearest pixel. Warns of a grey mask, of another shape, of a
    hole over 75 % and of one that is everything; raises ImageError for one without a hole.
    """
    h, w, _ = photo.rgb.shape
    if source is None:
        if photo.alpha is None:
            raise ImageError(f"{photo.name}: no mask given and no transparency to take as the hole")
        name, hole = f"{photo.name} (transparency)", photo.alpha == 0
    else:
        name, grey = _grey(source)
        if ((grey > 15) & (grey < 240)).any():
            warnings.warn(f"{name}: the mask has grey values; lighter than half is taken as the hole", stacklevel=2)
        hole = grey > 127
    hole = ~hole if invert else hole
    share = hole.mean()
    if share == 0:
        raise ImageError(f"{name}: the mask has no hole, so there is nothing to fill (white marks the hole)")
    if share > 0.75:
        extent = "everything is hole" if share == 1 else f"the hole is {share:.0%} of the photo"
        warnings.warn(f"{name}: {extent}; is the mask inverted? (white marks the hole)", stacklevel=2)
    return _scaled(hole, name, h, w)


def _grey(source: Picture) -> tuple[str, np.ndarray]:
    """Return a mask's name and luminance, uint8 (H, W), upright."""
    opened = open_picture(source, "mask")
    name, picture = opened.name, opened.picture
    if picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.int64)
        grey = (wide >> 8 if wide.max() > 255 else wide).clip(0, 255).astype(np.uint8)
    elif picture.mode == "F":
        raise ImageError(f"{name}: pixel format F; expected a mask of 8 or 16 bits, white where the hole is")
    else:
        grey = np.asarray(picture.convert("L"))
    if grey.max() == 1:  # zeros and ones, as programs write them
        grey = grey * np.uint8(255)
    return name, upright(grey, opened.orientation)


def _scaled(hole: np.ndarray, name: str, h: int, w: int) -> np.ndarray:
    mask_h, mask_w = hole.shape
    if (mask_h, mask_w) == (h, w):
        return hole
    if abs(mask_h * w - mask_w * h) > max(h, w) * max(mask_h, mask_w) // 50:
        warnings.warn(f"{name}: mask of {mask_w}x{mask_h} pixels, another shape than the photo's {w}x{h}; stretched",
                      stacklevel=3)  # fmt: skip
    scaled = np.asarray(Image.fromarray(hole).resize((w, h), Image.Resampling.NEAREST))
    if not scaled.any():
        raise ImageError(f"{name}: the mask of {mask_w}x{mask_h} pixels has no hole left at the photo's {w}x{h}")
    return scaled
