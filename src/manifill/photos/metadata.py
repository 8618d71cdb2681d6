"""What survives of a photo besides its pixels: colour profile, resolution and EXIF data without the orientation."""

from __future__ import annotations

import struct
import warnings
from typing import Any

from PIL import Image

ORIENTATION = 0x0112
SUBFOLDERS = 0x8769, 0x8825  # EXIF proper and GPS; the third, a thumbnail, shows what is to be removed
INTEROPERABILITY = 0xA005  # a place in the old file
# of a TIFF's tags: description, maker, model, software, date, artist, copyright, and Windows' own; others are storage
DESCRIBING = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, *range(0x9C9B, 0x9CA0)}


def orientation_of(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, 1 where there is none or a damaged one."""
    try:
        found = int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damage shows in many ways
        return 1
    return found if 1 <= found <= 8 else 1


def as_stored(tiff: bytes) -> bytes:
    """Return a TIFF that says nothing of its orientation, as some of OpenCV's versions obey it and some do not."""
    order = "<" if tiff.startswith(b"II") else ">"
    big = struct.unpack_from(order + "H", tiff, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, start)
    first, step = (start + 8, 20) if big else (start + 2, 12)
    for place in range(first, first + count * step, step):
        if struct.unpack_from(order + "H", tiff, place)[0] == ORIENTATION:
            value = place + step - (8 if big else 4)
            return tiff[:value] + struct.pack(order + "H", 1) + tiff[value + 2 :]
    return tiff


def metadata(picture: Image.Image) -> dict[str, Any]:
    """Return a decoded picture's icc_profile and exif (bytes) and dpi (two floats), those that it has."""
    info: dict[str, Any] = {}
    profile, exif = picture.info.get("icc_profile"), _exif(picture)
    if isinstance(profile, bytes) and profile:
        info["icc_profile"] = profile
    if len(exif):
        info["exif"] = exif.tobytes()
    dpi = _dpi(picture.info.get("dpi")) or _dpi((exif.get(0x011A), exif.get(0x011B)), exif.get(0x0128))
    return info | ({"dpi": dpi} if dpi else {})


def _exif(picture: Image.Image) -> Image.Exif:
    """Return a copy of the EXIF data that is to survive; warns of damaged data, which is left out."""
    kept = Image.Exif()
    try:
        found = picture.getexif()
        tags = DESCRIBING if picture.format == "TIFF" else set(found) - {ORIENTATION, *SUBFOLDERS}
        kept.update({tag: found[tag] for tag in tags if tag in found})
        for folder in SUBFOLDERS:
            own = found.get_ifd(folder)
            kept.get_ifd(folder).update({tag: value for tag, value in own.items() if tag != INTEROPERABILITY})
        kept.tobytes()
    except Exception as error:  # damage shows in many ways
        warnings.warn(f"damaged EXIF data is left out ({error})", stacklevel=4)
        return Image.Exif()
    return kept


def _dpi(found: Any, unit: Any = 2) -> tuple[float, float] | None:
    """Return a resolution in dots an inch, None for one that makes no sense; unit 2 is an inch, 3 a centimetre."""
    try:
        scale = {2: 1, 3: 2.54}[unit]
        across, down = (float(d) * scale for d in found)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 1 <= across <= 65535 and 1 <= down <= 65535 else None
