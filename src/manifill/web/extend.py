"""Photos with room at their sides, to be filled: the picture goes on beyond its borders (outpainting)."""

from __future__ import annotations

from PIL import Image, ImageOps

from manifill.web.limits import Limits, RefusedError

Sides = tuple[int, int, int, int]  # pixels added at the left, top, right and bottom


def extend(
    photo: Image.Image, mask: Image.Image | None, sides: Sides, limits: Limits
) -> tuple[Image.Image, Image.Image]:
    """Return a photo, upright, with `sides` added, and the mask of its hole: what is added and what `mask` says.

    The mask is as large as the photo before or after. Raises RefusedError for sides of more than half of the photo's
    width or height, for too many pixels and for a mask of another size.
    """
    upright = ImageOps.exif_transpose(photo)
    width, height = upright.size
    left, top, right, bottom = sides
    if max(left, right) > width // 2 or max(top, bottom) > height // 2:
        raise RefusedError(422, f"a side grows by at most half of the photo; this one has {width}x{height} pixels")
    whole = (width + left + right, height + top + bottom)
    if whole[0] * whole[1] > limits.pixels:
        found = f"the extended photo has {whole[0]}x{whole[1]} pixels"
        raise RefusedError(413, f"{found}; this server takes {limits.pixels} in all")
    larger = ImageOps.expand(upright, sides)
    larger.info = dict(upright.info)
    hole = Image.new("L", whole, 255)
    hole.paste(0, (left, top, left + width, top + height))
    if mask is not None:
        own = mask.convert("L").point([255 * (grey > 127) for grey in range(256)])
        if own.size not in ((width, height), whole):
            raise RefusedError(422, f"the mask has {own.width}x{own.height} pixels; expected {whole[0]}x{whole[1]}")
        hole.paste(255, (0, 0) if own.size == whole else (left, top), own)
    return larger, hole
