"""Completed photos as files: every pixel type, with the photo's metadata, in the formats that can hold it."""

from __future__ import annotations

import io
import warnings
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from manifill.config import ManifillWarning
from manifill.photos.decode import ImageError, plugins
from manifill.photos.lossless import Kept, png, tiff
from manifill.photos.photo import Photo, to_pillow

Format = Literal["png", "jpeg", "webp", "tiff", "avif", "heif"]
SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "avif": ".avif", "heif": ".heic"}
COLOURS = ("1", "L", "P", "RGB")
DEEP = ("I;16", "LA;16", "RGB;16", "RGBA;16")
HOLDS = {  # the pixel types of each format, by Pillow's names
    "png": (*COLOURS, "LA", "RGBA", *DEEP),
    "tiff": (*COLOURS, "LA", "RGBA", "CMYK", *DEEP),
    "jpeg": (*COLOURS, "CMYK"),
    "webp": (*COLOURS, "LA", "RGBA"),
    "avif": (*COLOURS, "LA", "RGBA"),
    "heif": (*COLOURS, "LA", "RGBA"),
}


def check_format(wanted: Format | None, quality: int | None = None) -> None:
    """Raise ImageError for a format or quality that no photo can be written with here."""
    if wanted is not None and wanted not in get_args(Format):
        raise ImageError(f"format is {wanted!r}; expected {', '.join(get_args(Format))}")
    if quality is not None and wanted in (None, "png", "tiff"):
        raise ImageError(f"quality is {quality}, but {wanted or 'png'} is without loss; name another format")
    if quality is not None and not 1 <= quality <= 100:
        raise ImageError(f"quality is {quality}; expected 1 to 100")
    plugins()
    Image.init()
    if wanted == "heif" and "HEIF" not in Image.SAVE:
        raise ImageError("format is heif, which needs the extra [heif]: pip install 'manifill[heif]'")
    if wanted == "avif" and "AVIF" not in Image.SAVE:
        raise ImageError("format is avif, which needs Pillow 11.3 or newer")


def format_for(
    photo: Photo, wanted: Format | None, quality: int | None = None, notes: list[str] | None = None
) -> Format:
    """Return the format to write a photo in: PNG unless told otherwise, TIFF for CMYK. Raises ImageError.

    Transparency in a palette counts as such: JPEG and TIFF's palettes have none. Warns where a PNG's chunks say how its
    colours are to be seen and the format has no place for them; `notes`, where given, gets the warning instead.
    """
    check_format(wanted, quality)
    if wanted is None:
        return "tiff" if photo.mode == "CMYK" else "png"
    held = photo.mode in HOLDS[wanted]
    if photo.alpha is not None and (wanted == "jpeg" or (wanted == "tiff" and photo.mode == "P")):
        held = False
    if not held:
        what = "transparent" if photo.alpha is not None else photo.mode
        raise ImageError(f"{photo.name}: {wanted} cannot hold {what} pixels; use {format_for(photo, None)}")
    lost = [kind.decode() for kind in photo.info.get("colour_chunks", {}) if kind != b"sRGB"]
    if wanted != "png" and lost and ("cICP" in lost or "icc_profile" not in photo.info):
        note = (
            f"{photo.name}: its {', '.join(lost)}, which {wanted} has no place for, may change how its "
            "colours are seen; png keeps it"
        )
        if notes is None:
            warnings.warn(note, ManifillWarning, stacklevel=2)
        else:
            notes.append(note)
    return wanted


def encode(
    photo: Photo,
    samples: np.ndarray,
    format: Format,
    quality: int | None,
    text: dict[str, str],
    kept: Kept | None = None,
) -> bytes:
    """Return a file of samples of the photo's kind, with its metadata; `text` goes into a PNG as text chunks.

    PNG and TIFF are lossless, WebP is unless a `quality` (1 to 100) is given; the others change all pixels a little.
    `kept`, empty at first, saves work for further samples of the same photo in the same format. Raises ImageError for a
    photo that is too large for the format.
    """
    if format == "png":
        return png(photo, samples, text, kept)
    if format == "tiff":
        return tiff(photo, samples, kept)
    picture, buffer = to_pillow(photo, samples), io.BytesIO()
    if picture.mode in ("1", "P"):
        picture = picture.convert("L" if picture.mode == "1" else "RGBA" if photo.alpha is not None else "RGB")
    settings: dict[str, Any] = {"quality": quality or 95}
    if format == "webp":
        settings = {"lossless": quality is None, "quality": quality or 80, "exact": True}
    elif format == "jpeg":
        settings["subsampling"] = 0
    try:
        picture.save(buffer, format.upper(), **settings, **_kept(photo, format))
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        h, w = samples.shape[:2]
        raise ImageError(f"{photo.name}: {w}x{h} pixels cannot be written as {format} ({error})") from error
    return buffer.getvalue()


def _kept(photo: Photo, format: Format) -> dict[str, Any]:
    """Return the metadata as settings of Pillow; the formats but JPEG have the resolution in EXIF data alone."""
    kept = {key: photo.info[key] for key in ("icc_profile", "exif", "dpi") if key in photo.info}
    if format != "jpeg" and "dpi" in kept:
        exif = Image.Exif()
        exif.load(kept.get("exif", b""))
        exif[0x011A], exif[0x011B] = kept.pop("dpi")
        exif[0x0128] = 2
        kept["exif"] = exif.tobytes()
    return kept
