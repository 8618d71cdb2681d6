"""Picture files, arrays and tensors decoded: what is in them, as it lies there, or one sentence on why not."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from manifill.photos import tiff
from manifill.photos.arrays import as_array, samples_of
from manifill.photos.metadata import Chunks, as_stored, forget_xmp, metadata, orientation_of, png_chunks

if TYPE_CHECKING:
    from torch import Tensor

Picture: TypeAlias = "Image.Image | np.ndarray | Tensor | str | Path | bytes | BinaryIO | Opened"

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}  # of files that are read everywhere
DEEP = re.compile(r"(LA|RGB|RGBA);16[BLN]?")  # kinds of 16-bit samples that Pillow cuts to 8


class ImageError(ValueError):
    """A photo or mask that cannot be used; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Opened:
    """A decoded picture with its name for messages, not yet upright: it is to be turned by `orientation`.

    `deep` are samples that Pillow would cut to 8 bits, uint16 (H, W, C), C being 2 (grey and alpha), 3 or 4. `stored`
    is the file's orientation, also where the picture has been turned already; `bits` are the file's, of a sample that
    has been cut to 8.
    """

    name: str
    picture: Image.Image
    orientation: int
    deep: np.ndarray | None = None
    stored: int = 1
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width when it is upright."""
        width, height = self.picture.size
        return (width, height) if self.orientation > 4 else (height, width)


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
        raise ImageError(
            f"{role}: a {type(source).__name__}; expected a path, an open file or its bytes, a PIL image, "
            "an array or a tensor"
        )
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
        if tiff.is_tiff(data):
            return _tiff_by_tifffile(data, name, role)
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
    bits = boxed_bits(data) if file.format in ("AVIF", "HEIF") else 8
    return Opened(name, tiff.mend(file), orientation_of(file), None, stored, bits)


def boxed_bits(data: bytes) -> int:
    """Return the bits of a sample that an AVIF or HEIC file announces (`pixi`, ISO/IEC 23008-12), 8 where it does not.

    Pillow and pillow-heif cut them to 8. Of several pictures in one file (a gain map, opacity) the deepest counts.
    """
    found = re.findall(rb"pixi\0{4}[\1-\4]([\x08-\x10])", data[: 1 << 16])
    return max((bits[0] for bits in found), default=8)


def _tiff_by_tifffile(data: bytes, name: str, role: str) -> Opened:
    """Decode a TIFF of a kind that Pillow does not know. Raises ImageError."""
    try:
        samples = tiff.deep_samples(data, 0)
        if samples is None:
            raise ImageError(f"{name}: a TIFF of a kind or compression that is not read ({role})")
        orientation, info, exif = tiff.described(data)
        samples = samples[..., 0] if samples.shape[2] == 1 else samples
        deep = samples if samples.dtype == np.uint16 and samples.ndim == 3 else None
        picture = _from_array(samples)
    except tiff.TiffError as error:
        raise ImageError(f"{name}: this TIFF has {error} ({role})") from error
    except ImageError:
        raise
    except Exception as error:  # decoders meet damage in many ways
        raise ImageError(f"{name}: damaged or truncated {role} ({' '.join(str(error).split())})") from error
    picture.info |= info
    picture.getexif().update(exif)
    orientation = orientation if 1 <= orientation <= 8 else 1
    return Opened(name, picture, orientation, deep, orientation)


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
            raise ImageError(
                "16-bit samples, a plane a colour, in a compression that cannot be decoded; expected "
                "them together, or deflated"
            )
    elif file.format not in ("PNG", "PPM") or ";16" not in layout:
        return None
    import cv2

    if file.format == "PNG":
        Image.open(io.BytesIO(data)).verify()  # of a damaged one OpenCV's libpng speaks on the terminal
    kind = DEEP.search(layout)
    data = as_stored(data) if file.format == "TIFF" else data
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if kind else None
    if kind is None or found is None or found.dtype != np.uint16 or found.ndim != 3:
        raise ImageError(
            f"16-bit samples of the kind {layout[:40]!r} cannot be decoded; expected RGB, with or without "
            "transparency, or 8 bits"
        )
    order = {"LA": [0, 3], "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[kind[1]]
    return found[..., [2, 1, 0, 3] if kind[1] == "RGB" and found.shape[2] == 4 else order]


def _from_array(samples: np.ndarray) -> Image.Image:
    """Return an array as `arrays.samples_of` gives it as a picture, 16-bit colour cut to 8."""
    if samples.dtype == np.bool_:
        return Image.fromarray(samples.astype(np.uint8) * 255)
    deep = samples.dtype == np.uint16 and samples.ndim == 3
    return Image.fromarray((samples >> 8).astype(np.uint8) if deep else np.ascontiguousarray(samples))
