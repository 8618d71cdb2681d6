"""TIFF files whose tags say something that Pillow decodes wrongly, without a word: read by tifffile, or refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from manifill.photos.metadata import DESCRIBING

REDUCED, OLD_REDUCED = 1, 2  # of the tags NewSubfileType (a bit) and SubfileType
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations
APART = 2  # planar configuration: a plane a colour
MULTIPLIED = 1  # of extra samples: colours were multiplied by the opacity


class TiffError(ValueError):
    """A TIFF that cannot be decoded rightly."""


def is_tiff(data: bytes) -> bool:
    """Whether a file is a TIFF or BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def seek_full(file: Image.Image) -> int:
    """Go to the first page that is no reduced copy of another and return its number. Raises TiffError."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return 0
    page = 0
    while _is_reduced(file):
        page += 1
        try:
            file.seek(page)
        except EOFError:
            raise TiffError(
                "holds reduced copies of a picture alone; the picture itself is in a form that is not read"
            ) from None
    return page


def _is_reduced(file: TiffImagePlugin.TiffImageFile) -> bool:
    tags = file.tag_v2
    return bool(tags.get(254, 0) & REDUCED) or tags.get(255, 1) == OLD_REDUCED


def _check_size(width: int, height: int) -> None:
    """Raise TiffError for a picture of more pixels than Pillow decodes: what it does not open, it does not count."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > 2 * most:
        raise TiffError(f"{width}x{height} pixels, more pixels than are safe to decode")


def is_deep(file: Image.Image) -> bool:
    """Whether a TIFF has samples of more than 8 bits."""
    return isinstance(file, TiffImagePlugin.TiffImageFile) and max(file.tag_v2.get(258, (1,))) > 8


def is_apart(file: Image.Image) -> bool:
    """Whether a TIFF stores a plane a colour."""
    return isinstance(file, TiffImagePlugin.TiffImageFile) and file.tag_v2.get(284, 1) == APART


def mend(file: Image.Image) -> Image.Image:
    """Return a TIFF's picture as Pillow has decoded it, mended where Pillow overlooks a tag."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return file
    tags = file.tag_v2
    bits = max(tags.get(258, (1,)))
    if file.mode.startswith("I;16") and (bits < 16 or tags.get(262) == WHITE_IS_ZERO):
        most = (1 << bits) - 1
        grey = np.asarray(file).astype(np.uint32)
        grey = most - grey if tags.get(262) == WHITE_IS_ZERO else grey
        return _with(file, Image.fromarray((grey * 65535 // most).astype(np.uint16)))
    if file.mode == "P" and 320 in tags and 0 < max(tags[320]) < 256:  # colours of 8 bits in place of 16
        mended = _with(file, Image.fromarray(np.asarray(file)))
        mended.putpalette(np.array(tags[320], np.uint8).reshape(3, -1).T.tobytes())
        return mended
    return file


def _with(file: Image.Image, picture: Image.Image) -> Image.Image:
    picture.info = file.info
    return picture


def described(data: bytes) -> tuple[int, dict[str, Any], Image.Exif]:
    """Return a TIFF's orientation, colour profile and resolution, and the tags that say what it shows."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = {tag.code: tag.value for tag in file.pages[0].tags}  # type: ignore[union-attr]
    info: dict[str, Any] = {"icc_profile": tags[34675]} if 34675 in tags else {}
    exif = Image.Exif()
    exif.update({code: value for code, value in tags.items() if code in DESCRIBING and isinstance(value, str)})
    exif.update({code: TiffImagePlugin.IFDRational(*tags[code]) for code in (282, 283) if code in tags})
    if 296 in tags:
        exif[296] = int(tags[296])
    return int(tags.get(274, 1)), info, exif


def deep_samples(data: bytes, page: int) -> np.ndarray | None:
    """Return a page's samples, uint16 (H, W, C), white as the most, as they lie; None where a codec is missing.

    Raises TiffError for what none of our kinds of pictures is.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found: Any = file.pages[page]
            _check_size(found.imagewidth, found.imagelength)
            samples, apart = found.asarray(), found.planarconfig == APART
            photometric, extra = int(found.photometric), tuple(int(e) for e in found.extrasamples)
            words = f"{found.dtype} samples {found.shape}, photometric {photometric}"
    except TiffError:
        raise
    except (ValueError, RuntimeError, ImportError, KeyError, NotImplementedError):
        return None  # tifffile says so where it lacks a codec
    if samples.dtype not in (np.uint8, np.uint16) or photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise TiffError(f"{words}; expected 8 or 16 bits of grey or RGB")
    if MULTIPLIED in extra:
        raise TiffError("16-bit colours that were multiplied by their opacity; expected plain ones")
    samples = samples if samples.ndim > 2 else samples[..., None]
    samples = np.moveaxis(samples, 0, 2) if apart and samples.shape[0] < 5 and samples.ndim == 3 else samples
    channels = samples.shape[2] if samples.ndim == 3 else 0
    if channels not in (1, 2, 3, 4) or (photometric == RGB) != (channels > 2):
        raise TiffError(f"{words}; expected grey or RGB, with or without opacity")
    if photometric == WHITE_IS_ZERO:
        samples = samples.copy()
        samples[..., 0] = np.iinfo(samples.dtype).max - samples[..., 0]
    return np.ascontiguousarray(samples)
