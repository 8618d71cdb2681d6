"""What survives of a photo besides its pixels: what says how to see its colours, resolution, EXIF data."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

ORIENTATION = 0x0112
SUBFOLDERS = 0x8769, 0x8825  # EXIF proper and GPS; the third, a thumbnail, shows what is to be removed
INTEROPERABILITY = 0xA005  # a place in the old file
# of a TIFF's tags: description, maker, model, software, date, artist, copyright, and Windows' own; others are storage
DESCRIBING = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, *range(0x9C9B, 0x9CA0)}


COLOUR_CHUNKS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}  # with their lengths
TEXT_CHUNKS = b"tEXt", b"zTXt", b"iTXt"
PROFILE_BYTES = 1 << 26  # of a colour profile, decompressed


@dataclass
class Chunks:
    """What a PNG says that Pillow forgets or refuses: chunks about colour by their names, and the profile."""

    colour: dict[bytes, bytes] = field(default_factory=dict)
    profile: bytes | None = None
    grey_step: int = 1  # of samples of 2 or 4 bits spread over 8, which Pillow forgets of the clear one

    def restore(self, picture: Image.Image) -> None:
        """Put it where `metadata` looks for it."""
        if self.colour:
            picture.info["colour_chunks"] = self.colour
        if self.profile:
            picture.info["icc_profile"] = self.profile
        if self.grey_step > 1 and isinstance(picture.info.get("transparency"), int):
            picture.info["transparency"] *= self.grey_step


def png_chunks(data: bytes) -> tuple[bytes, Chunks]:
    """Return a PNG without its texts and profile, which may be too large for Pillow, and what is to be kept of it.

    EXIF data in a text are left in. What is no PNG is returned as it is.
    """
    chunks, parts = Chunks(), [data[:8]]
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data, chunks
    if data[24:26] in (b"\2\0", b"\4\0"):
        chunks.grey_step = 255 // ((1 << data[24]) - 1)
    for kind, start, stop in _chunk_places(data):
        content = data[start + 8 : stop - 4]
        if kind in COLOUR_CHUNKS and len(content) == COLOUR_CHUNKS[kind]:
            chunks.colour.setdefault(kind, content)
        if kind == b"iCCP" and chunks.profile is None:
            chunks.profile = _inflated(content.partition(b"\0")[2][1:])
        if kind == b"iCCP" or (kind in TEXT_CHUNKS and not content.startswith(b"Raw profile type exif")):
            continue
        parts.append(data[start:stop])
    return b"".join(parts), chunks


def _chunk_places(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, stop) of a PNG's chunks; what follows a broken one is one more, of no kind."""
    start = 8
    while start < len(data):
        stop = start + 12 + int.from_bytes(data[start : start + 4])
        if stop > len(data) or zlib.crc32(data[start + 4 : stop - 4]) != int.from_bytes(data[stop - 4 : stop]):
            yield b"", start, len(data)
            return
        yield data[start + 4 : start + 8], start, stop
        start = stop


def _inflated(compressed: bytes) -> bytes | None:
    """Return what was compressed, None where it is damaged or more than a profile may be."""
    press = zlib.decompressobj()
    try:
        found = press.decompress(compressed, PROFILE_BYTES)
    except zlib.error:
        return None
    return None if press.unconsumed_tail else found


def forget_xmp(picture: Image.Image) -> None:
    """Leave a picture's XMP data out: Pillow would take an orientation from it that viewers and browsers do not."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        picture.info.pop(key, None)


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


def metadata(picture: Image.Image, notes: list[str]) -> dict[str, Any]:
    """Return a decoded picture's icc_profile and exif (bytes), dpi (two floats) and colour_chunks, those that it has.

    `notes` gets what could not be kept.
    """
    info: dict[str, Any] = {}
    profile, exif = picture.info.get("icc_profile"), _exif(picture, notes)
    if chunks := picture.info.get("colour_chunks", _colour_chunks(picture)):
        info["colour_chunks"] = chunks
    if isinstance(profile, bytes) and profile:
        info["icc_profile"] = profile
    if len(exif):
        info["exif"] = exif.tobytes()
    dpi = _dpi(picture.info.get("dpi")) or _dpi((exif.get(0x011A), exif.get(0x011B)), exif.get(0x0128))
    return info | ({"dpi": dpi} if dpi else {})


def _colour_chunks(picture: Image.Image) -> dict[bytes, bytes]:
    """Return the chunks about colour that a picture which Pillow has opened had."""
    found = {}
    try:
        if "gamma" in picture.info:
            found[b"gAMA"] = struct.pack(">I", round(picture.info["gamma"] * 100000))
        if "chromaticity" in picture.info:
            found[b"cHRM"] = struct.pack(">8I", *(round(c * 100000) for c in picture.info["chromaticity"]))
        if "srgb" in picture.info:
            found[b"sRGB"] = bytes([picture.info["srgb"]])
    except (struct.error, TypeError, ValueError):  # of a caller's own
        return {}
    return found


def _exif(picture: Image.Image, notes: list[str]) -> Image.Exif:
    """Return a copy of the EXIF data that is to survive; damaged data is left out, and noted."""
    kept, damage = Image.Exif(), _exif_damage(picture.info.get("exif"))
    try:
        found = picture.getexif()
        tags = DESCRIBING if picture.format == "TIFF" else set(found) - {ORIENTATION, *SUBFOLDERS}
        kept.update({tag: found[tag] for tag in tags if tag in found})
        if str(kept.get(0x010E, "")).startswith('{"shape":'):  # tifffile's, about how the pixels lay in the old file
            del kept[0x010E]
        for folder in SUBFOLDERS:
            own = found.get_ifd(folder)
            kept.get_ifd(folder).update({tag: value for tag, value in own.items() if tag != INTEROPERABILITY})
        kept.tobytes()
    except Exception as error:  # damage shows in many ways
        damage, kept = str(error), Image.Exif()
    if damage:
        notes.append(f"damaged EXIF data is left out ({' '.join(damage.split())})")
    return kept


def _exif_damage(raw: Any) -> str:
    """Return what is wrong with EXIF data: Pillow says so once and then shows a picture without, or only warns."""
    try:
        with warnings.catch_warnings(action="error"):
            Image.Exif().load(raw if isinstance(raw, bytes) else b"")
    except Exception as error:  # damage shows in many ways
        return str(error) or type(error).__name__
    return ""


def _dpi(found: Any, unit: Any = 2) -> tuple[float, float] | None:
    """Return a resolution in dots an inch, None for one that makes no sense; unit 2 is an inch, 3 a centimetre."""
    try:
        scale = {2: 1, 3: 2.54}[unit]
        across, down = (float(d) * scale for d in found)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError):
        return None
    return (across, down) if 1 <= across <= 65535 and 1 <= down <= 65535 else None
