"""Photos and masks to tensors and back: the only place that knows colour ranges."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Picture: TypeAlias = Image.Image | np.ndarray | str | Path

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


class ImageError(ValueError):
    """A photo or mask that cannot be used; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Photo:
    """A photo, upright: `rgb` uint8 (H, W, 3), `alpha` uint8 (H, W) or None, and its colour profile."""

    name: str
    rgb: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None


def open_picture(source: Picture, role: str) -> tuple[str, Image.Image]:
    """Return (name, decoded picture) of a path, a PIL image or an array; `role` names it in messages.

    Arrays are uint8 (H, W), (H, W, 3) or (H, W, 4), or bool (H, W). Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        if source.dtype not in (np.uint8, np.bool_) or source.ndim not in (2, 3):
            found = f"{source.dtype} {source.shape}"
            raise ImageError(f"{role}: array {found}; expected uint8 (H, W), (H, W, 3) or (H, W, 4), or bool (H, W)")
        return role, Image.fromarray(source.astype(np.uint8) * 255 if source.dtype == np.bool_ else source)
    if isinstance(source, Image.Image):
        return role, source
    path = Path(source)
    if not path.is_file():
        raise ImageError(f"{path}: no such {role} file" if not path.exists() else f"{path}: not a file ({role})")
    try:
        with Image.open(path) as file:
            file.load()
            return str(path), _with_exif(file)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image that can be read ({role})") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: damaged or truncated {role} ({error})") from error


def _with_exif(file: Image.Image) -> Image.Image:
    """Copy a file's picture, turned upright by its EXIF orientation."""
    icc = file.info.get("icc_profile")
    upright = ImageOps.exif_transpose(file)
    upright.info["icc_profile"] = icc
    return upright


def load_photo(source: Picture) -> Photo:
    """Decode a photo: EXIF orientation applied, alpha and colour profile kept. Raises ImageError."""
    name, picture = open_picture(source, "photo")
    if picture.mode not in MODES:
        raise ImageError(f"{name}: pixel format {picture.mode}; expected 8-bit grey, palette, RGB or RGBA")
    rgba = np.asarray(picture.convert("RGBA"))
    transparent = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
    return Photo(name, rgba[..., :3].copy(), rgba[..., 3].copy() if transparent else None,
                 picture.info.get("icc_profile"))  # fmt: skip


def load_mask(source: Picture | None, photo: Photo, invert: bool = False) -> np.ndarray:
    """Return the hole as bool (H, W): white is hole; without a mask, where the photo is transparent.

    Warns of a grey mask, of a hole over 75 % and of one that is everything; raises ImageError for a mask of another
    size and for one without a hole.
    """
    h, w, _ = photo.rgb.shape
    if source is None:
        if photo.alpha is None:
            raise ImageError(f"{photo.name}: no mask given and no transparency to take as the hole")
        name, hole = f"{photo.name} (transparency)", photo.alpha == 0
    else:
        name, picture = open_picture(source, "mask")
        grey = np.asarray(picture.convert("L"))
        if grey.shape != (h, w):
            raise ImageError(f"{name}: mask of {grey.shape[1]}x{grey.shape[0]} pixels; the photo has {w}x{h}")
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
    return hole


def to_model(photo: Photo, hole: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """Scale a square photo and its hole to the model's size: (1, 3, S, S) in [-1, 1] and (1, 1, S, S), 1 = hole.

    A pixel is hole when any part of it is, and colours under the hole do not bleed into known pixels.
    """
    if photo.rgb.shape[:2] == (size, size):
        return to_tensor(photo.rgb), torch.from_numpy(hole)[None, None].float()
    known = (~hole).astype(np.float32)
    weight = _resize(known, size, Image.Resampling.LANCZOS)
    channels = [_resize(photo.rgb[..., k] * known, size, Image.Resampling.LANCZOS) for k in range(3)]
    rgb = np.dstack(channels) / np.where(weight > 0.1, weight, 1)[..., None]  # below it, a pixel is hole anyway
    small = _resize(hole.astype(np.float32), size, Image.Resampling.BOX) > 1e-6
    return to_tensor(rgb.round().clip(0, 255).astype(np.uint8)), torch.from_numpy(small)[None, None].float()


def _resize(channel: np.ndarray, size: int, filter: Image.Resampling) -> np.ndarray:
    """Scale one float32 channel to (size, size)."""
    return np.asarray(Image.fromarray(channel).resize((size, size), filter))


def compose(photo: Photo, hole: np.ndarray, painted: np.ndarray) -> Image.Image:
    """Paste `painted` uint8 (S, S, 3), scaled to the photo, into the hole; all other pixels stay as they are."""
    h, w, _ = photo.rgb.shape
    if painted.shape[:2] != (h, w):
        painted = np.asarray(Image.fromarray(painted).resize((w, h), Image.Resampling.LANCZOS))
    rgb = np.where(hole[..., None], painted, photo.rgb)
    if photo.alpha is not None:
        rgb = np.dstack([rgb, np.where(hole, np.uint8(255), photo.alpha)])
    result = Image.fromarray(rgb)
    if photo.icc_profile:
        result.info["icc_profile"] = photo.icc_profile
    return result


def masked(photo: Photo, hole: np.ndarray) -> Image.Image:
    """Return the photo with a white hole, for looking at."""
    return Image.fromarray(np.where(hole[..., None], np.uint8(255), photo.rgb))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Scale uint8 (H, W, 3) or (N, H, W, 3) to float32 (1 or N, 3, H, W) in [-1, 1]."""
    batch = picture if picture.ndim == 4 else picture[None]
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """Round (N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3); values outside are clamped."""
    scaled = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def grid(columns: Sequence[np.ndarray], gap: int = 2) -> Image.Image:
    """Lay out columns, each uint8 (N, H, W, 3), as one picture of N rows on white."""
    n, h, w, _ = columns[0].shape
    sheet = np.full((n * (h + gap) + gap, len(columns) * (w + gap) + gap, 3), 255, np.uint8)
    for j, column in enumerate(columns):
        for i, picture in enumerate(column):
            y, x = gap + i * (h + gap), gap + j * (w + gap)
            sheet[y : y + h, x : x + w] = picture
    return Image.fromarray(sheet)
