"""Photos as people bring them: any common format and pixel type in, the same pixel type out, metadata kept."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from manifill.photos import tiff
from manifill.photos.arrays import as_array, samples_of
from manifill.photos.metadata import Chunks, as_stored, forget_xmp, metadata, orientation_of, png_chunks

if TYPE_CHECKING:
    from torch import Tensor

Picture: TypeAlias = "Image.Image | np.ndarray | Tensor | str | Path | bytes | BinaryIO | Opened"

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}  # of files that are read everywhere
SMALLEST = 8  # pixels of a photo's side: less shows nothing to go by
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16L", "I;16B", "I;16N")
DEEP = re.compile(r"(LA|RGB|RGBA);16[BLN]?")  # kinds of 16-bit samples that Pillow cuts to 8


class ImageError(ValueError):
    """A photo or mask that cannot be used; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Photo:
    """A photo, upright.

    `samples` are its own pixels, uint8 or uint16: (H, W) grey or palette indices, (H, W, C) otherwise; `mode` is
    Pillow's name of their kind, with ";16" for 16-bit ones. `rgb` uint8 (H, W, 3) is what the networks see and `alpha`
    uint8 (H, W) its opacity, if any. `info` has what survives: icc_profile, exif, dpi, a PNG's chunks about colour, and
    the palette. `orientation` is the file's, which has been applied; `notes` are the warnings about it.
    """

    name: str
    samples: np.ndarray = field(repr=False)
    mode: str
    rgb: np.ndarray = field(repr=False)
    alpha: np.ndarray | None = field(default=None, repr=False)
    info: dict[str, Any] = field(default_factory=dict, repr=False)
    orientation: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A decoded picture with its name for messages, not yet upright: it is to be turned by `orientation`.

    `deep` are samples that Pillow would cut to 8 bits, uint16 (H, W, C), C being 2 (grey and alpha), 3 or 4. `stored`
    is the file's orientation, also where the picture has been turned already.
    """

    name: str
    picture: Image.Image
    orientation: int
    deep: np.ndarray | None = None
    stored: int = 1


def load_photo(source: Picture) -> Photo:
    """Decode a photo, turned upright by its EXIF orientation. Raises ImageError."""
    opened = open_picture(source, "photo")
    name, picture = opened.name, opened.picture
    if min(picture.size) < SMALLEST:
        w, h = picture.size
        raise ImageError(f"{name}: a photo of {w}x{h} pixels; expected at least {SMALLEST}x{SMALLEST}")
    if picture.mode == "I" and _fits_16(picture):
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16))
    if picture.mode not in MODES:
        raise ImageError(f"{name}: pixel format {picture.mode}; expected 8- or 16-bit grey or RGB, palette or CMYK")
    notes: list[str] = []
    info = metadata(opened.picture, notes)
    try:
        if opened.deep is not None:
            mode, samples = {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[opened.deep.shape[2]], opened.deep
        else:
            mode, samples = _eight(picture, info)
        samples = upright(samples, opened.orientation)
        rgb, alpha = _seen(samples, mode, info)
    except (ValueError, IndexError, TypeError, OSError) as error:  # Pillow converts what it has decoded
        raise ImageError(f"{name}: damaged photo ({error})") from error
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    return Photo(name, samples, mode, rgb, alpha, info, opened.stored, tuple(f"{name}: {note}" for note in notes))


def open_picture(source: Picture, role: str) -> Opened:
    """Decode a path, a file or its bytes, a PIL image, an array or a tensor; `role` is for messages.

    Arrays are what `arrays.samples_of` takes. Raises ImageError.
    """
    if isinstance(source, Opened):
        return source
    if isinstance(source, str | Path):
        return decode(_read(Path(source), role), str(source), role)
    array = as_array(source)
    if array is not None:
        try:
            array = samples_of(array)
        except ValueError as error:
            raise ImageError(f"{role}: {error}") from error
        deep = array if array.dtype == np.uint16 and array.ndim == 3 else None
        return Opened(role, _from_array(array), 1, deep)
    if isinstance(source, Image.Image):
        try:
            source.load()
            orientation = orientation_of(source)
        except Exception as error:  # decoders meet damage in many ways
            raise ImageError(f"damaged or truncated {role} ({error})") from error
        return Opened(role, source, orientation, None, orientation)
    data: Any = source
    if callable(read := getattr(source, "read", None)):
        try:
            data = read()
        except (OSError, ValueError) as error:
            raise ImageError(f"{role}: cannot be read ({error})") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(f"{role}: a {type(source).__name__}; expected a path, an open file or its bytes, a PIL image, "
                         "an array or a tensor")  # fmt: skip
    return decode(bytes(data), role, role)


def _read(path: Path, role: str) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"{path}: no such {role} file" if not path.exists() else f"{path}: not a file ({role})")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # of a name with a zero in it
        raise ImageError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}; {role})") from error


def decode(data: bytes, name: str, role: str) -> Opened:
    """Decode a picture file. Raises ImageError, whatever the bytes."""
    plugins()
    data, chunks = png_chunks(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; a bomb of twice Pillow's limit is an error
            with Image.open(io.BytesIO(data)) as file:
                return _decoded(data, file, chunks, name)
    except ImageError as error:
        raise ImageError(f"{name}: {error} ({role})") from error
    except tiff.TiffError as error:
        raise ImageError(f"{name}: this TIFF {error} ({role})") from error
    except UnidentifiedImageError as error:
        found = f"{len(data)} bytes" if data else "no bytes"
        raise ImageError(f"{name}: not an image that can be read ({role}, {found})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more pixels than are safe to decode ({role}; {error})") from error
    except MemoryError as error:
        raise ImageError(f"{name}: needs more memory than there is ({role})") from error
    except Exception as error:  # decoders meet damage in many ways; whatever it is, the file is at fault
        raise ImageError(f"{name}: damaged or truncated {role} ({' '.join(str(error).split())})") from error


def _decoded(data: bytes, file: ImageFile.ImageFile, chunks: Chunks, name: str) -> Opened:
    """Return an open file's picture. Raises what decoders raise."""
    page = tiff.seek_full(file)
    forget_xmp(file)
    layout, stored = str(file.tile[0][3]) if file.tile else "", orientation_of(file)
    file.load()  # which turns a TIFF upright
    forget_xmp(file)  # of a PNG, which may have it at its end
    chunks.restore(file)
    metadata(file, [])  # reads all of it while the file is open
    deep = _deep(data, file, layout, page)
    if deep is not None:
        return Opened(name, file, stored, deep, stored)
    return Opened(name, tiff.mend(file), orientation_of(file), None, stored)


def plugins() -> None:
    """Let Pillow read HEIC where the extra [heif] is installed."""
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return
        register_heif_opener()


def _deep(data: bytes, file: Image.Image, layout: str, page: int) -> np.ndarray | None:
    """Return 16-bit samples that Pillow cuts to 8, uint16 (H, W, C); None when there are none. Raises ImageError.

    `layout` is Pillow's description of how the file stores samples.
    """
    if file.mode.startswith(("I", "F")):
        return None
    if tiff.is_deep(file):
        found = tiff.deep_samples(data, page)
        if found is not None:
            return found
        if page > 0 or tiff.is_apart(file):  # which OpenCV does not read
            raise ImageError("16-bit samples, a plane a colour, in a compression that cannot be decoded; expected "
                             "them together, or deflated")  # fmt: skip
    elif file.format not in ("PNG", "PPM") or ";16" not in layout:
        return None
    import cv2

    kind = DEEP.search(layout)
    data = as_stored(data) if file.format == "TIFF" else data
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if kind else None
    if kind is None or found is None or found.dtype != np.uint16 or found.ndim != 3:
        raise ImageError(f"16-bit samples of the kind {layout[:40]!r} cannot be decoded; expected RGB, with or without "
                         "transparency, or 8 bits")  # fmt: skip
    order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[kind[1]]
    return found[..., [2, 1, 0, 3] if kind[1] == "RGB" and found.shape[2] == 4 else order]


def _from_array(samples: np.ndarray) -> Image.Image:
    """Return an array as `arrays.samples_of` gives it as a picture, 16-bit colour cut to 8."""
    if samples.dtype == np.bool_:
        return Image.fromarray(samples.astype(np.uint8) * 255)
    deep = samples.dtype == np.uint16 and samples.ndim == 3
    return Image.fromarray((samples >> 8).astype(np.uint8) if deep else np.ascontiguousarray(samples))


def _fits_16(picture: Image.Image) -> bool:
    low, high = picture.getextrema()
    return low >= 0 and high <= 65535  # type: ignore[operator]


def _eight(picture: Image.Image, info: dict[str, Any]) -> tuple[str, np.ndarray]:
    """Return (mode, samples) as Pillow decoded them; a palette goes into `info`."""
    if picture.mode == "P":
        info["palette"] = picture.getpalette("RGB")
        clear, colours = picture.info.get("transparency"), len(info["palette"] or ()) // 3
        if isinstance(clear, bytes) or (clear is not None and clear < colours):
            info["transparency"] = clear[:colours] if isinstance(clear, bytes) else clear  # some are longer
        elif clear is not None:
            picture = picture.copy()  # the caller's own stays as it is
            del picture.info["transparency"]
        elif picture.palette is not None and picture.palette.mode == "RGBA":
            info["transparency"] = bytes((picture.getpalette("RGBA") or [])[3::4])
        return "P", np.asarray(picture)
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint16)  # in this machine's order of bytes
        if "transparency" not in picture.info:
            return "I;16", grey
        return "LA;16", np.dstack([grey, np.where(grey == picture.info["transparency"], 0, 65535).astype(np.uint16)])
    if picture.mode in ("PA", "RGBX") or "transparency" in picture.info:
        kind = "RGB" if picture.mode == "RGBX" else "LA" if picture.mode in ("1", "L") else "RGBA"
        picture = picture.convert(kind)
    if picture.mode == "1":
        return "1", np.asarray(picture.convert("L"))
    return picture.mode, np.asarray(picture)


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array (H, W, ...) by an EXIF orientation, 1 to 8; others are left as they are."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _seen(samples: np.ndarray, mode: str, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what the networks see of samples: (rgb uint8 (H, W, 3), alpha uint8 (H, W) or None)."""
    if samples.dtype == np.uint16:
        samples = (samples >> 8).astype(np.uint8)
    if mode == "P":
        rgba = np.asarray(_paletted(samples, info).convert("RGBA"))
        return np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].copy() if "transparency" in info else None
    if mode == "CMYK":
        return np.asarray(_profiled(Image.fromarray(samples, "CMYK"), info, "RGB")), None
    if samples.ndim == 2:
        return np.repeat(samples[..., None], 3, axis=2), None
    if samples.shape[2] == 2:
        return np.repeat(samples[..., :1], 3, axis=2), samples[..., 1]
    return (samples, None) if samples.shape[2] == 3 else (np.ascontiguousarray(samples[..., :3]), samples[..., 3])


def _paletted(samples: np.ndarray, info: dict[str, Any]) -> Image.Image:
    picture = Image.fromarray(samples)
    picture.putpalette(info["palette"])
    if "transparency" in info:
        picture.info["transparency"] = info["transparency"]
    return picture


def _profiled(picture: Image.Image, info: dict[str, Any], mode: str) -> Image.Image:
    """Convert between CMYK and RGB, by the photo's colour profile where it has one that can be used."""
    try:
        own, screen = ImageCms.ImageCmsProfile(io.BytesIO(info["icc_profile"])), ImageCms.createProfile("sRGB")
        pair = (own, screen) if mode == "RGB" else (screen, own)
        converted = ImageCms.profileToProfile(picture, *pair, outputMode=mode)
        assert converted is not None
        return converted
    except (KeyError, OSError, ImageCms.PyCMSError):
        return picture.convert(mode)


def stored(photo: Photo, painted: np.ndarray) -> np.ndarray:
    """Turn painted colours, float (h, w, 3) in [0, 255], into opaque samples of the photo's kind."""
    rgb = painted.round().clip(0, 255).astype(np.uint8)
    if photo.mode in ("1", "L", "LA"):
        grey = np.asarray(Image.fromarray(rgb).convert("1" if photo.mode == "1" else "L").convert("L"))
        return grey if photo.mode != "LA" else np.dstack([grey, np.full_like(grey, 255)])
    if photo.mode == "P":
        return _to_palette(rgb, photo.info)
    if photo.mode == "CMYK":
        return np.asarray(_profiled(Image.fromarray(rgb), photo.info, "CMYK"))
    if photo.samples.dtype == np.uint16:
        rgb = (painted.clip(0, 255) * 257).round().astype(np.uint16)
    if photo.mode in ("I;16", "LA;16"):
        rgb = (rgb @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint16)
    if photo.mode in ("RGB", "RGB;16", "I;16"):
        return rgb
    return np.dstack([rgb, np.full(rgb.shape[:2], np.iinfo(rgb.dtype).max, rgb.dtype)])


def _to_palette(rgb: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """Return the indices of the nearest opaque colours of the photo's own palette, dithered."""
    colours = np.array(info["palette"], np.uint8).reshape(-1, 3)
    clear = info.get("transparency", b"")
    opacity = np.full(len(colours), 255)
    if isinstance(clear, int):
        opacity[clear] = 0
    else:
        opacity[: len(clear)] = list(clear)[: len(colours)]
    usable = np.flatnonzero(opacity == 255) if (opacity == 255).any() else np.arange(len(colours))
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[usable].tobytes())
    return usable[np.asarray(Image.fromarray(rgb).quantize(palette=palette)).clip(0, len(usable) - 1)].astype(np.uint8)


def to_pillow(photo: Photo, samples: np.ndarray) -> Image.Image:
    """Return samples of the photo's kind as a PIL image with its metadata; 16-bit colour, which PIL lacks, as 8-bit."""
    if photo.mode == "P":
        picture = _paletted(samples, photo.info)
    elif photo.mode == "1":
        picture = Image.fromarray(samples).convert("1", dither=Image.Dither.NONE)
    elif samples.dtype == np.uint16 and samples.ndim == 3:
        picture = Image.fromarray((samples >> 8).astype(np.uint8))
    else:
        picture = Image.fromarray(samples, "CMYK") if photo.mode == "CMYK" else Image.fromarray(samples)
    picture.info.update({k: v for k, v in photo.info.items() if k in ("icc_profile", "exif", "dpi")})
    return picture
