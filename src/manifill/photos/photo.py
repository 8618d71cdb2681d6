"""Photos as people bring them: any common format and pixel type in, the same pixel type out, metadata kept."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from manifill.config import ManifillWarning
from manifill.photos.decode import ImageError, Picture, open_picture
from manifill.photos.metadata import metadata

SMALLEST = 8  # pixels of a photo's side: less shows nothing to go by
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16L", "I;16B", "I;16N")


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


def load_photo(source: Picture | Photo) -> Photo:
    """Decode a photo, turned upright by its EXIF orientation; one that is loaded already is it. Raises ImageError."""
    if isinstance(source, Photo):
        return source
    opened = open_picture(source, "photo")
    name, picture = opened.name, opened.picture
    if min(picture.size) < SMALLEST:
        w, h = picture.size
        raise ImageError(f"{name}: a photo of {w}x{h} pixels; expected at least {SMALLEST}x{SMALLEST}")
    if picture.mode == "I" and _fits_16(picture):
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16))
    if picture.mode not in MODES:
        raise ImageError(f"{name}: pixel format {picture.mode}; expected 8- or 16-bit grey or RGB, palette or CMYK")
    notes = [f"its {opened.bits} bits a sample are cut to 8"] if opened.bits > 8 else []
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
        warnings.warn(f"{name}: {note}", ManifillWarning, stacklevel=2)
    return Photo(name, samples, mode, rgb, alpha, info, opened.stored, tuple(f"{name}: {note}" for note in notes))


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
