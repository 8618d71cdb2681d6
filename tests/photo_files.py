"""Real photo files of every kind that people bring, made from the astronaut, to be read back by other code."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

EXAMPLES = Path(__file__).parent.parent / "examples"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DPI = (300, 300)
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".avif": "AVIF", ".heic": "HEIF"}


def face(height: int = 96, width: int = 96) -> np.ndarray:
    """Return the astronaut at a size, uint8 (H, W, 3)."""
    with Image.open(EXAMPLES / "astronaut.png") as picture:
        return np.asarray(picture.convert("RGB").resize((width, height)))


def deep(height: int = 96, width: int = 96, channels: int = 3) -> np.ndarray:
    """Return the astronaut with all sixteen bits in use: uint16 (H, W) or (H, W, C)."""
    rng = np.random.default_rng(0)
    wide = np.dstack([face(height, width), face(height, width)[..., :1]])[..., :channels].astype(np.uint16) * 256
    wide += rng.integers(0, 256, wide.shape).astype(np.uint16)
    if channels in (2, 4):
        wide[..., -1] = 65535
        wide[:9, :9, -1] = 30000
    return wide[..., 0] if channels == 1 else wide


def clear(height: int = 96, width: int = 96) -> np.ndarray:
    """Return an opacity with half and wholly transparent parts, uint8 (H, W)."""
    alpha = np.full((height, width), 255, np.uint8)
    alpha[: height // 8, : width // 8], alpha[-height // 8 :, : width // 8] = 128, 0
    return alpha


def exif(orientation: int = 1) -> Image.Exif:
    """Return EXIF data with text, a sub-folder and a place on Earth."""
    found = Image.Exif()
    found[0x010F], found[0x013B], found[0x0112] = "Camera maker", "Someone", orientation
    found.get_ifd(0x8769)[0x9003] = "2021:06:19 12:00:00"
    found.get_ifd(0x8825)[0x0001] = "N"
    return found


def cmyk_profile() -> bytes:
    """Return a small colour profile of inks, ICC version 2, with tables of two steps an ink both ways."""
    steps = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    light = (1 - 0.9 * steps[:, :3]) * (1 - 0.85 * steps[:, 3:])
    lab = np.column_stack(
        [light.mean(1), 0.5 + 0.3 * (light[:, 0] - light[:, 1]), 0.5 + 0.3 * (light[:, 1] - light[:, 2])]
    )
    back = np.indices((3, 3, 3)).reshape(3, -1).T / 2
    ink = (
        1 - back[:, :1] - np.column_stack([back[:, 1] - 0.5, 0.5 - back[:, 1], 0.5 - back[:, 2], 0 * back[:, 0] - 0.5])
    )
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D),
        b"A2B0": _table(4, 3, 2, lab),
        b"B2A0": _table(3, 4, 3, ink),
    }
    offset, listing, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        listing += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = offset + len(body)
    head = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"prtr", b"CMYK", b"Lab ") + struct.pack(
        ">6H", 2021, 6, 19, 0, 0, 0
    )
    head += b"acsp" + bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + listing + body


def _table(inputs: int, outputs: int, grid: int, values: np.ndarray) -> bytes:
    matrix = struct.pack(">9i", *(0x10000 * (k % 4 == 0) for k in range(9)))
    line = bytes(range(256))
    nodes = (values.clip(0, 1) * 255).round().astype(np.uint8).tobytes()
    return b"mft1\0\0\0\0" + bytes([inputs, outputs, grid, 0]) + matrix + line * inputs + nodes + line * outputs


def _saved(picture: Image.Image, format: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **settings)  # type: ignore[arg-type]
    return buffer.getvalue()


def _tiff(samples: np.ndarray, **settings: object) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    kind = "minisblack" if samples.ndim == 2 or samples.shape[2] == 2 else "rgb"
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        settings["extrasamples"] = ["UNASSALPHA"]
    settings |= {"resolution": DPI, "resolutionunit": "INCH", "iccprofile": SRGB if kind == "rgb" else None}
    tifffile.imwrite(buffer, samples, photometric=kind, metadata=None, **settings)  # type: ignore[arg-type]
    return buffer.getvalue()


def _deep_png(samples: np.ndarray, orientation: int = 1) -> bytes:
    """Write 16-bit PNG by the book: no filter, chunks for profile, resolution and EXIF."""
    h, w = samples.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if samples.ndim == 2 else samples.shape[2]]
    rows = samples.astype(">u2").reshape(h, -1).view(np.uint8)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0),
        **({b"iCCP": b"sRGB\0\0" + zlib.compress(SRGB)} if kind in (2, 6) else {}),
        b"pHYs": struct.pack(">IIB", 11811, 11811, 1),
        b"eXIf": exif(orientation).tobytes().removeprefix(b"Exif\0\0"),
        b"IDAT": zlib.compress(np.hstack([np.zeros((h, 1), np.uint8), rows]).tobytes()),
        b"IEND": b"",
    }
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_key(png: bytes, key: tuple[int, ...]) -> bytes:
    """Return a PNG of which one colour is transparent."""
    data = b"tRNS" + struct.pack(f">{len(key)}H", *key)
    place = png.index(b"IDAT") - 4
    return png[:place] + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) + png[place:]


def rgb(h: int, w: int) -> Image.Image:
    return Image.fromarray(face(h, w))


def rgba(h: int, w: int) -> Image.Image:
    return Image.fromarray(np.dstack([face(h, w), clear(h, w)]))


def grey_alpha(h: int, w: int) -> Image.Image:
    picture = rgb(h, w).convert("L")
    picture.putalpha(Image.fromarray(clear(h, w)))
    return picture


def palette(h: int, w: int, colours: int = 64) -> Image.Image:
    return rgb(h, w).quantize(colours)


ALL: dict[str, object] = {"icc_profile": SRGB, "dpi": DPI, "exif": exif()}
Maker = Callable[[int, int], bytes]
KINDS: dict[str, Maker] = {
    "rgb.jpg": lambda h, w: _saved(rgb(h, w), "JPEG", quality=92, **ALL),
    "progressive.jpg": lambda h, w: _saved(rgb(h, w), "JPEG", progressive=True, **ALL),
    "grey.jpg": lambda h, w: _saved(rgb(h, w).convert("L"), "JPEG", dpi=DPI, exif=exif()),
    "inks.jpg": lambda h, w: _saved(rgb(h, w).convert("CMYK"), "JPEG", dpi=DPI, exif=exif()),
    "inks_profile.jpg": lambda h, w: _saved(
        rgb(h, w).convert("CMYK"), "JPEG", dpi=DPI, exif=exif(), icc_profile=cmyk_profile()
    ),
    "rgb.png": lambda h, w: _saved(rgb(h, w), "PNG", **ALL),
    "alpha.png": lambda h, w: _saved(rgba(h, w), "PNG", **ALL),
    "grey.png": lambda h, w: _saved(rgb(h, w).convert("L"), "PNG", dpi=DPI, exif=exif()),
    "grey_alpha.png": lambda h, w: _saved(grey_alpha(h, w), "PNG", dpi=DPI, exif=exif()),
    "bits.png": lambda h, w: _saved(rgb(h, w).convert("1"), "PNG", dpi=DPI),
    "palette.png": lambda h, w: _saved(palette(h, w), "PNG", **ALL),
    "palette16.png": lambda h, w: _saved(palette(h, w, 16), "PNG", **ALL),
    "palette_clear.png": lambda h, w: _saved(palette(h, w), "PNG", transparency=3, **ALL),
    "palette_half.png": lambda h, w: _saved(palette(h, w), "PNG", transparency=bytes([0, 100, 200]), **ALL),
    "grey_key.png": lambda h, w: _saved(rgb(h, w).convert("L"), "PNG", transparency=7, dpi=DPI),
    "rgb_key.png": lambda h, w: _saved(rgb(h, w), "PNG", transparency=tuple(int(c) for c in face(h, w)[0, 0]), **ALL),
    "grey16.png": lambda h, w: _deep_png(deep(h, w, 1)),
    "grey_alpha16.png": lambda h, w: _deep_png(deep(h, w, 2)),
    "rgb16.png": lambda h, w: _deep_png(deep(h, w, 3)),
    "alpha16.png": lambda h, w: _deep_png(deep(h, w, 4)),
    "rgb.webp": lambda h, w: _saved(rgb(h, w), "WEBP", lossless=True, icc_profile=SRGB, exif=exif()),
    "lossy.webp": lambda h, w: _saved(rgb(h, w), "WEBP", icc_profile=SRGB, exif=exif()),
    "alpha.webp": lambda h, w: _saved(rgba(h, w), "WEBP", lossless=True, exact=True, icc_profile=SRGB),
    "rgb.tif": lambda h, w: _saved(rgb(h, w), "TIFF", compression="tiff_lzw", **ALL),
    "alpha.tif": lambda h, w: _saved(rgba(h, w), "TIFF", **ALL),
    "grey.tif": lambda h, w: _saved(rgb(h, w).convert("L"), "TIFF", dpi=DPI),
    "bits.tif": lambda h, w: _saved(rgb(h, w).convert("1"), "TIFF", compression="group4", dpi=DPI),
    "palette.tif": lambda h, w: _saved(palette(h, w), "TIFF", dpi=DPI),
    "inks.tif": lambda h, w: _saved(rgb(h, w).convert("CMYK"), "TIFF", dpi=DPI),
    "inks_profile.tif": lambda h, w: _saved(rgb(h, w).convert("CMYK"), "TIFF", dpi=DPI, icc_profile=cmyk_profile()),
    "grey16.tif": lambda h, w: _tiff(deep(h, w, 1)),
    "rgb16.tif": lambda h, w: _tiff(deep(h, w, 3), compression="zlib"),
    "rgb16_big.tif": lambda h, w: _tiff(deep(h, w, 3), byteorder=">"),
    "alpha16.tif": lambda h, w: _tiff(deep(h, w, 4)),
    "rgb.bmp": lambda h, w: _saved(rgb(h, w), "BMP", dpi=DPI),
    "grey.bmp": lambda h, w: _saved(rgb(h, w).convert("L"), "BMP", dpi=DPI),
    "palette.bmp": lambda h, w: _saved(palette(h, w), "BMP", dpi=DPI),
    "bits.bmp": lambda h, w: _saved(rgb(h, w).convert("1"), "BMP", dpi=DPI),
    "short.bmp": lambda h, w: _short_bmp(face(h, w)),
    "palette.gif": lambda h, w: _saved(palette(h, w), "GIF", transparency=2),
    "rgb.avif": lambda h, w: _saved(rgb(h, w), "AVIF", icc_profile=SRGB, exif=exif()),
    "alpha.avif": lambda h, w: _saved(rgba(h, w), "AVIF", icc_profile=SRGB),
    "rgb.heic": lambda h, w: _saved(rgb(h, w), "HEIF", icc_profile=SRGB, exif=exif()),
    "alpha.heic": lambda h, w: _saved(rgba(h, w), "HEIF", icc_profile=SRGB),
}


MODES = {  # the kinds of each pixel type, by Pillow's names
    "1": ("bits.png", "bits.tif", "bits.bmp"),
    "L": ("grey.jpg", "grey.png", "grey.tif", "grey.bmp"),
    "LA": ("grey_alpha.png", "grey_key.png"),
    "P": (
        "palette.png",
        "palette16.png",
        "palette_clear.png",
        "palette_half.png",
        "palette.tif",
        "palette.bmp",
        "palette.gif",
    ),
    "RGB": (
        "rgb.jpg",
        "progressive.jpg",
        "rgb.png",
        "rgb.webp",
        "lossy.webp",
        "rgb.tif",
        "rgb.bmp",
        "short.bmp",
        "rgb.avif",
        "rgb.heic",
    ),
    "RGBA": ("alpha.png", "rgb_key.png", "alpha.webp", "alpha.tif", "alpha.avif", "alpha.heic"),
    "CMYK": ("inks.jpg", "inks_profile.jpg", "inks.tif", "inks_profile.tif"),
    "I;16": ("grey16.png", "grey16.tif"),
    "LA;16": ("grey_alpha16.png",),
    "RGB;16": ("rgb16.png", "rgb16.tif", "rgb16_big.tif"),
    "RGBA;16": ("alpha16.png", "alpha16.tif"),
}
MODE = {kind: mode for mode, kinds in MODES.items() for kind in kinds}


def read(data: bytes) -> Image.Image:
    """Decode a file."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def channels(mode: str) -> int:
    """Return the number of samples of a pixel."""
    return {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode.split(";")[0], 1)


def samples_by_others(data: bytes, mode: str) -> np.ndarray:
    """Return a file's samples as Pillow or, of 16 bits, OpenCV and tifffile read them."""
    if ";16" in mode and data.startswith(b"\x89PNG"):
        import cv2

        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert found is not None
        return found if found.ndim == 2 else found[..., {2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels(mode)]]
    if ";16" in mode:
        import tifffile

        return tifffile.imread(io.BytesIO(data))
    picture = read(data)
    return np.asarray(picture.convert("L") if picture.mode == "1" else picture)


def _short_bmp(samples: np.ndarray) -> bytes:
    """Write a bitmap of sixteen bits a pixel: five, six and five of red, green and blue."""
    h, w, _ = samples.shape
    r, g, b = (samples[::-1, :, k].astype("<u2") >> s for k, s in enumerate((3, 2, 3)))
    rows = np.pad(r << 11 | g << 5 | b, ((0, 0), (0, w % 2))).astype("<u2").tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, w, h, 1, 16, 3, len(rows), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    return b"BM" + struct.pack("<IHHI", 66 + len(rows), 0, 0, 66) + head + masks + rows


def needs(kind: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where files of a kind cannot be made: HEIC needs an extra."""
    from manifill.photos.decode import plugins

    plugins()
    Image.init()
    format = {".heic": "HEIF", ".avif": "AVIF"}.get(Path(kind).suffix, "PNG")
    return pytest.mark.skipif(format not in Image.SAVE, reason=f"no {format} here: pip install 'manifill[heif]'")


def make(kind: str, folder: Path, height: int = 96, width: int = 96) -> Path:
    """Write a file of a kind into a folder."""
    path = folder / kind
    path.write_bytes(KINDS[kind](height, width))
    return path


def turned(kind: str, folder: Path, orientation: int, height: int, width: int) -> Path:
    """Write a file of a kind whose EXIF data say that it is turned."""
    path, picture = folder / kind, rgb(height, width)
    if kind == "rgb16.png":
        path.write_bytes(_deep_png(deep(height, width), orientation))
    elif kind == "rgb16.tif":
        path.write_bytes(_tiff(deep(height, width), extratags=[(274, 3, 1, orientation), (315, 2, 0, "Someone")]))
    else:
        path.write_bytes(_saved(picture, FORMATS[path.suffix], exif=exif(orientation)))
    return path


def upright_by_pillow(path: Path) -> np.ndarray:
    """Return a file's picture as Pillow shows it, uint8 (H, W, 3)."""
    with Image.open(path) as file:
        return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
