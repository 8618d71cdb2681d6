"""Which part of a photo is the hole: masks of any format, colour and opacity, read by one rule.

1. Where the opacity varies, the opaque paint marks the hole, whatever its colour. A mask that is the photo itself with
   a part erased marks what was erased.
2. Otherwise, in greys, what is lighter than half. Label values (0, 1, 2, ...), of which none is, mark by not being 0.
3. Otherwise one colour, or some flat colours, mark the hole on black.

What fits none of these is refused with the values that were found, because a guess would fill the wrong part.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from manifill.config import ManifillWarning
from manifill.photos.decode import ImageError, Opened, Picture, open_picture
from manifill.photos.photo import Photo, upright

LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")  # formats in which flat colours do not stay flat
EXPECTED = "expected white on black, one colour on black, or paint on a transparent layer"
FEW = 16  # values that may be labels
COLOURED = 40  # difference between a pixel's channels above which it is no grey with noise


@dataclass(frozen=True)
class Layer:
    """A decoded mask, upright: `colours` uint8 (H, W, 3) and `opacity` uint8 (H, W), None where all is opaque."""

    name: str
    colours: np.ndarray
    opacity: np.ndarray | None
    lossy: bool = False

    def turned(self, orientation: int) -> Layer:
        """Return it turned by an EXIF orientation."""
        opacity = None if self.opacity is None else upright(self.opacity, orientation)
        grey = self.colours.strides[2] == 0  # one number a pixel, and it stays one: large masks take a second otherwise
        colours = upright(self.colours[..., :1] if grey else self.colours, orientation)
        return Layer(self.name, np.broadcast_to(colours, (*colours.shape[:2], 3)), opacity, self.lossy)


def load_mask(source: Picture | None, photo: Photo, invert: bool = False, notes: list[str] | None = None) -> np.ndarray:
    """Return the hole as bool (H, W), by the rule above; without a mask, where the photo is transparent.

    A mask of another size is scaled so that every pixel of the photo that the hole touches is hole. One whose sides are
    the photo's exchanged is turned as the photo was. Warns of what a person may not have meant: grey values, labels,
    another shape, a hole over 75 %; `notes`, where given, gets the warnings instead. Raises ImageError for a mask
    without a hole and for one that cannot be understood.
    """
    said: list[str] = []
    if source is None:
        name, hole = f"{photo.name} (transparency)", _transparent(photo, said)
    else:
        layer = layer_of(open_picture(source, "mask"))
        if _black_and_white(photo) and _like_a_photo(layer):
            raise ImageError(
                f"{photo.name} looks like a mask and {layer.name} like a photo; expected the photo first, then the mask"
            )
        layer = _turned_as(photo, layer, said)
        name, hole = layer.name, marked(layer, photo, said) > 127
    hole = ~hole if invert else hole
    share = hole.mean()
    if share == 0:
        raise ImageError(f"{name}: the mask has no hole, so there is nothing to fill (white marks the hole)")
    if share > 0.75:
        extent = "everything is hole" if share == 1 else f"the hole is {share:.0%} of the photo"
        said.append(f"{name}: {extent}; is the mask inverted? (white marks the hole)")
    h, w, _ = photo.rgb.shape
    if hole.shape != (h, w) and not _same_shape(hole.shape, (h, w)):
        mask_h, mask_w = hole.shape
        said.append(f"{name}: mask of {mask_w}x{mask_h} pixels, another shape than the photo's {w}x{h}; stretched")
    for note in said if notes is None else []:
        warnings.warn(note, ManifillWarning, stacklevel=2)
    if notes is not None:
        notes += said
    return touched(hole, h, w)


def layer_of(opened: Opened) -> Layer:
    """Return a mask's colours and opacity, 8 bits each, upright by its own orientation. Raises ImageError."""
    picture, info = opened.picture, opened.picture.info
    opacity = None
    if opened.deep is not None:
        samples = (opened.deep >> 8).astype(np.uint8)
        opacity = samples[..., -1] if samples.shape[2] in (2, 4) else None
        colours = samples[..., :3] if samples.shape[2] >= 3 else samples[..., :1]
    elif picture.mode == "F" or picture.mode.startswith("I"):
        wide = np.asarray(picture).astype(np.float64)
        if not np.isfinite(wide).all() or wide.min() < 0:
            raise ImageError(f"{opened.name}: the mask has values below 0 or that are no numbers; {EXPECTED}")
        full = 1 if picture.mode == "F" and wide.max() <= 1 else 255 if wide.max() <= 255 else 65535
        colours = (wide * (255 / full)).clip(0, 255).astype(np.uint8)[..., None]
        if "transparency" in info:
            opacity = np.where(wide == info["transparency"], 0, 255).astype(np.uint8)
    else:
        if picture.has_transparency_data:
            rgba = np.asarray(picture.convert("RGBA"))
            colours, opacity = rgba[..., :3], rgba[..., 3]
        else:
            colours = np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
            colours = colours if colours.ndim == 3 else colours[..., None]
        indices = np.asarray(picture) if picture.mode == "P" else None
        if indices is not None and (colours == colours[:1, :1]).all() and indices.min() < indices.max():
            colours, opacity = indices[..., None], None  # a palette that says nothing: the indices are the labels
    colours = np.broadcast_to(colours, (*colours.shape[:2], 3))
    layer = Layer(opened.name, colours, opacity, picture.format in LOSSY)
    return layer.turned(opened.orientation)


def _sparse(pixels: np.ndarray) -> np.ndarray:
    """Return some of a picture's pixels (n, 3), at most about 512 x 512, evenly spread."""
    step = 1 + max(pixels.shape[:2]) // 512
    return pixels[::step, ::step].reshape(-1, 3)


def _black_and_white(photo: Photo) -> bool:
    """Whether a photo is black and white alone, up to what JPEG makes of that, as a mask is."""
    pixels = _sparse(photo.rgb)
    dark, light = (pixels < FEW).all(1), (pixels > 255 - FEW).all(1)
    return bool(dark.any() and light.any() and (dark | light).mean() > 0.98)


def _like_a_photo(layer: Layer) -> bool:
    """Whether a mask has many colours or greys, in most of its pixels neither black nor white."""
    pixels = _sparse(layer.colours)
    between = (pixels >= FEW).any(1) & (pixels <= 255 - FEW).any(1)
    return bool(between.mean() > 0.5 and len(np.unique(pixels[between] >> 3, axis=0)) > FEW)


def _turned_as(photo: Photo, layer: Layer, notes: list[str]) -> Layer:
    """Turn a mask whose sides are the photo's exchanged, as one made from the pixels as they lie in the file."""
    shape, own = photo.rgb.shape[:2], layer.colours.shape[:2]
    if own == shape or not _same_shape(own[::-1], shape) or (_same_shape(own, shape) and own[::-1] != shape):
        return layer
    found = (
        f"{layer.name}: mask of {own[1]}x{own[0]} pixels, the photo's {shape[1]}x{shape[0]} with its sides exchanged"
    )
    if photo.orientation < 5:
        raise ImageError(f"{found}, and the photo's file does not say how to turn it; turn the mask")
    notes.append(f"{found}; turned as the photo's file says (orientation {photo.orientation})")
    return layer.turned(photo.orientation)


def _same_shape(own: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two sizes have the same shape, up to rounding and a fiftieth."""
    (h, w), (other_h, other_w) = own[:2], other[:2]
    return abs(h * other_w - w * other_h) <= max(h, w) * max(other_h, other_w) // 50


def marked(layer: Layer, photo: Photo, notes: list[str]) -> np.ndarray:
    """Return how much each pixel of a mask is marked, uint8 (H, W), 255 for wholly. Raises ImageError."""
    name, colours, opacity = layer.name, layer.colours, layer.opacity
    if opacity is not None and opacity.max() == 0:
        raise ImageError(f"{name}: the mask is transparent everywhere, so nothing is painted; {EXPECTED}")
    if opacity is not None and opacity.min() <= opacity.max() // 2:
        opacity = (opacity * (255 / opacity.max())).round().astype(np.uint8)  # a brush may be half transparent
        paint = colours[opacity > 191].astype(np.int16)
        if (np.percentile(paint, 99, 0) - np.percentile(paint, 1, 0)).max() <= COLOURED:
            return _warned_of_grey(layer, opacity, "half-transparent paint; more than half opaque", notes)
        if _shows(photo, colours, opacity):
            return erased(opacity, name, notes).astype(np.uint8) * 255
        if not _few(paint):
            raise ImageError(f"{name}: the mask's opaque part has many colours and is not the photo's; {EXPECTED}")
        colours = (colours * (opacity[..., None] / 255)).round().astype(np.uint8)
    if colours.strides[2] == 0:  # grey from the start, as most masks are: nothing to look for in large ones
        return _by_lightness(layer, colours[..., 0], notes)
    spread = colours.max(2) - colours.min(2)
    if (spread > COLOURED).any():
        return _by_colour(layer, colours, notes)
    grey = colours[..., 0] if spread.max() == 0 else np.asarray(Image.fromarray(colours).convert("L"))
    return _by_lightness(layer, grey, notes)


def _by_lightness(layer: Layer, grey: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return greys as marks; label values, none of which is light, count as marked unless they are 0."""
    values = np.flatnonzero(Image.fromarray(grey).histogram())
    low, high, dark = values[0], values[-1], bool(((values > 0) & (values < FEW)).any())
    if low == 0 and 0 < high <= 127 and (high == 1 or (not layer.lossy and len(values) <= FEW)):
        if high > 1:
            notes.append(f"{layer.name}: the mask has the values {_listed(values)}; all but 0 are taken as the hole")
        return np.where(grey > 0, 255, 0).astype(np.uint8)
    if high <= 127:
        raise ImageError(
            f"{layer.name}: the mask has no hole, so there is nothing to fill (its values are "
            f"{_listed(values)}; white marks the hole)"
        )
    if dark and not layer.lossy and len(values) <= 2 * FEW:
        notes.append(f"{layer.name}: the mask has the values {_listed(values)}; those above 127 are taken as the hole")
        return grey
    return _warned_of_grey(layer, grey, "grey values; lighter than half", notes)


def _warned_of_grey(layer: Layer, marks: np.ndarray, what: str, notes: list[str]) -> np.ndarray:
    if ((marks > 15) & (marks < 240)).any():
        notes.append(f"{layer.name}: the mask has {what} is taken as the hole")
    return marks


def _by_colour(layer: Layer, colours: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return marks of a mask in colour: its one paint on black, or all that is not black among a few flat colours."""
    value = colours.max(2)
    paint = colours[value > 31].astype(np.float32)
    hue = paint / paint.max(1, keepdims=True)
    black = (value < FEW).mean() > 0.001
    ends = (2, 98) if layer.lossy else (0.5, 99.5)
    if black and np.ptp(np.percentile(hue, ends, 0), axis=0).max() <= 0.25:
        scaled = (value * (255 / np.percentile(value[value > 31], 99))).clip(0, 255).astype(np.uint8)
        return _warned_of_grey(layer, scaled, "a soft edge; more than half of its colour", notes)
    if black and _few(colours.reshape(-1, 3)):
        notes.append(f"{layer.name}: the mask has the colours {_colours(colours)}; all but black is taken as the hole")
        return np.where(value >= FEW, 255, 0).astype(np.uint8)
    raise ImageError(
        f"{layer.name}: the mask has the colours {_colours(colours)}, so that the hole is not clear; {EXPECTED}"
    )


def _few(pixels: np.ndarray) -> bool:
    """Whether pixels (N, 3) have a few flat colours, soft edges between them aside, rather than those of a photo."""
    counts = np.unique((pixels.astype(np.int32) >> 4) @ [256, 16, 1], return_counts=True)[1]
    return np.sort(counts)[-8:].sum() > 0.9 * len(pixels)


def _colours(colours: np.ndarray) -> str:
    """Name the most frequent colours of (H, W, 3)."""
    packed = colours.reshape(-1, 3).astype(np.int64) @ [65536, 256, 1]
    found, counts = np.unique(packed, return_counts=True)
    first = [f"#{found[k]:06x}" for k in np.argsort(-counts, kind="stable")[:4]]
    return ", ".join(first) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _listed(values: Sequence[int] | np.ndarray) -> str:
    """Name a few values, or where many lie."""
    if len(values) > 6:
        return f"{values[0]} to {values[-1]}"
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _shows(photo: Photo, colours: np.ndarray, opacity: np.ndarray) -> bool:
    """Whether the opaque part of a picture (H, W, 3) is the photo, at any size."""
    h, w = colours.shape[:2]
    if not _same_shape((h, w), photo.rgb.shape):
        return False
    own = photo.rgb if photo.rgb.shape[:2] == (h, w) else np.asarray(Image.fromarray(photo.rgb).resize((w, h)))
    opaque = opacity > 250
    return bool(opaque.any()) and np.abs(own[opaque].astype(np.int16) - colours[opaque]).mean() < 16


def _transparent(photo: Photo, notes: list[str]) -> np.ndarray:
    """Return the hole that a photo's own opacity makes. Raises ImageError where there is none."""
    if photo.alpha is None:
        raise ImageError(f"{photo.name}: no mask given and no transparency to take as the hole")
    if (photo.alpha > 0).all() and (partly := int((photo.alpha < 255).sum())):
        raise ImageError(
            f"{photo.name} (transparency): the mask has no hole, so there is nothing to fill ({partly} "
            "pixels are partly transparent, none wholly)"
        )
    return erased(photo.alpha, f"{photo.name} (transparency)", notes)


def erased(opacity: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Return what was erased of a picture, bool (H, W): the wholly transparent part and the soft edge that joins it.

    `opacity` is uint8 (H, W). A soft brush leaves pixels of every opacity around the part: kept as they are, they would
    stay visible as a ring around what is filled.
    """
    clear = opacity == 0
    usual = int(np.bincount(opacity.ravel(), minlength=256)[1:].argmax()) + 1  # a photo may be translucent as a whole
    partly = opacity < usual - 4
    if not clear.any() or not (partly & ~clear).any():
        return clear
    from scipy import ndimage

    hole = ndimage.binary_propagation(clear, np.ones((3, 3)), partly)
    if ring := int((hole & ~clear).sum()):
        notes.append(
            f"{name}: {ring} partly transparent pixels around the transparent part are taken as hole, too; "
            "give a mask to decide otherwise"
        )
    return hole


def touched(hole: np.ndarray, h: int, w: int) -> np.ndarray:
    """Scale a hole, bool, to (h, w): a pixel is hole where the hole covers any part of it."""
    for axis, size in enumerate((h, w)):
        own = hole.shape[axis]
        if own != size:
            edges = np.arange(size + 1, dtype=np.int64) * own
            starts, stops = edges[:-1] // size, -(-edges[1:] // size)
            counts = np.insert(np.cumsum(hole, axis, dtype=np.int32), 0, 0, axis)
            hole = counts.take(stops, axis) > counts.take(starts, axis)
    return hole
