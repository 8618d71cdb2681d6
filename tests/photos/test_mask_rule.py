"""One rule says what a mask marks: opacity, one colour, labels, orientation; what it does not fit is refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from manifill.photos.decode import ImageError
from manifill.photos.mask import erased, load_mask
from manifill.photos.photo import Photo, load_photo, upright

HOLE = np.zeros((24, 40), np.bool_)
HOLE[5:12, 8:20] = HOLE[15:20, 30:39] = True
PHOTO = load_photo(photos.face(24, 40))
MARK = HOLE.astype(np.uint8) * 255


def flat(colour: tuple[int, ...], beneath: tuple[int, ...]) -> np.ndarray:
    """Return one colour where the hole is, another elsewhere: uint8 (H, W, C)."""
    return np.where(HOLE[..., None], np.uint8(colour), np.uint8(beneath)).astype(np.uint8)


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def palette(colours: list[tuple[int, int, int]], indices: np.ndarray, **options: object) -> bytes:
    """Return a PNG of palette indices."""
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette([c for colour in colours for c in colour])
    return saved(picture, "PNG", **options)


def painted(colour: tuple[int, int, int], beneath: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    return Image.fromarray(flat((*colour, 255), (*beneath, 0)))


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
UNSAID = {  # masks whose meaning is clear: nothing is to be said of them
    "white on clear white": painted((255, 255, 255)),
    "black on clear black": painted((0, 0, 0), (0, 0, 0)),
    "green on clear": painted((10, 200, 30), (0, 0, 0)),
    "grey and alpha": Image.fromarray(np.dstack([np.zeros_like(MARK), MARK])),
    "webp": saved(painted((255, 0, 0)), "WEBP", lossless=True, exact=True),
    "tiff": saved(painted((0, 0, 255)), "TIFF", compression="tiff_lzw"),
    "gif": saved(
        Image.fromarray(flat((0, 0, 0), (255, 255, 255))).quantize(2),
        "GIF",
        transparency=int(np.asarray(Image.fromarray(flat((0, 0, 0), (255, 255, 255))).quantize(2))[0, 0]),
    ),
    "palette, tRNS": palette([(0, 0, 0), (0, 0, 0)], HOLE, transparency=b"\0\xff"),
    "grey key": saved(Image.fromarray(255 - MARK), "PNG", transparency=255),
    "translucent brush": Image.fromarray(flat((255, 0, 0, 90), (0, 0, 0, 0))),
    "sixteen bits": np.dstack([np.zeros((24, 40, 3), np.uint16), HOLE.astype(np.uint16) * 65535]),
    "black and white on clear": Image.fromarray(
        np.dstack([MARK, MARK, MARK, np.where(np.arange(40) < 5, 0, 255).repeat(24).reshape(40, 24).T]).astype(np.uint8)
    ),
    "red": flat((255, 0, 0), (0, 0, 0)),
    "blue": flat((0, 0, 255), (0, 0, 0)),
    "dark green": flat((0, 70, 0), (0, 0, 0)),
    "palette index 1": palette(VOC, HOLE),
    "palette index 4": palette(VOC, HOLE * 4),
    "zeros and ones": HOLE.astype(np.int64),
}
SAID = {  # masks that are read, with a word about how
    "label 2": (HOLE.astype(np.uint8) * 2, "the values 0 and 2; all but 0"),
    "labels 1 and 2": (np.where(HOLE, 1 + np.arange(40) % 2, 0).astype(np.uint8), "the values 0, 1 and 2; all but 0"),
    "grey index 7": (saved(Image.fromarray(HOLE.astype(np.uint8) * 7), "PNG"), "the values 0 and 7"),
    "palette of labels": (palette(VOC, HOLE * (1 + np.arange(40) % 4)), "the colours #000000, #.*; all but black"),
    "an empty palette": (palette([(0, 0, 0)] * 3, HOLE * 2), "the values 0 and 2"),
}


@pytest.mark.parametrize("name", UNSAID)
def test_what_is_clear_is_read_without_a_word(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_mask(UNSAID[name], PHOTO), HOLE)
    with pytest.warns(UserWarning, match=r"the hole is \d+% of the photo"):
        assert np.array_equal(load_mask(UNSAID[name], PHOTO, invert=True), ~HOLE)


@pytest.mark.parametrize("name", SAID)
def test_labels_are_read_with_a_word(name: str) -> None:
    notes: list[str] = []
    mask, words = SAID[name]
    with pytest.warns(UserWarning, match=words):
        assert np.array_equal(load_mask(mask, PHOTO), HOLE)
    assert np.array_equal(load_mask(mask, PHOTO, notes=notes), HOLE)  # which get them in place of warnings
    assert len(notes) == 1


def test_void_labels_are_not_passed_over_in_silence() -> None:
    labels = np.where(HOLE, 255, 0).astype(np.uint8)
    labels[20:, :5] = 1
    with pytest.warns(UserWarning, match="the values 0, 1 and 255; those above 127"):
        assert np.array_equal(load_mask(labels, PHOTO), HOLE)


REFUSED = {
    "a photo": (photos.face(24, 40)[::-1], "the colours #.* more, so that the hole is not clear"),
    "red on white": (flat((255, 0, 0), (255, 255, 255)), "the colours #ffffff, #ff0000, so that"),
    "an empty layer": (
        Image.new("RGBA", (40, 24), (255, 255, 255, 0)),
        "transparent everywhere",
    ),
    "another photo, erased": (np.dstack([photos.face(24, 40)[:, ::-1], 255 - MARK]), "opaque part has many colours"),
    "dark greys": (np.where(HOLE, 90, 40).astype(np.uint8), "no hole.*values are 40 and 90"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_with_what_was_found(name: str) -> None:
    mask, words = REFUSED[name]
    with pytest.raises(ImageError, match=words):
        load_mask(mask, PHOTO)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_photo_with_its_hole_erased_is_a_mask(scale: int) -> None:
    photo = load_photo(photos.face(96 * scale, 128 * scale))
    alpha = np.full((96, 128), 255, np.uint8)
    alpha[30:50, 40:90] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_mask(np.dstack([photos.face(96, 128), alpha]), photo)
    assert np.array_equal(found, (alpha == 0).repeat(scale, 0).repeat(scale, 1))


def soft(width: float) -> np.ndarray:
    """Return an opacity with a part erased by a brush whose edge is so wide."""
    y, x = np.mgrid[:60, :80]
    return (255 * ((np.hypot(y - 30, x - 40) - 12) / width).clip(0, 1)).astype(np.uint8)


@pytest.mark.parametrize("width", [1.5, 4, 10])
def test_a_soft_edge_is_erased_with_the_part(width: float) -> None:
    notes: list[str] = []
    hole = erased(soft(width), "photo", notes)
    assert np.array_equal(hole, soft(width) < 251)
    assert f"{int((hole & (soft(width) > 0)).sum())} partly transparent pixels" in notes[0]


def test_what_was_translucent_elsewhere_stays() -> None:
    opacity = np.full((60, 80), 200, np.uint8)  # as a whole, with a part of another opacity that touches no hole
    opacity[:10, :10], opacity[20:30, 20:30] = 90, 0
    notes: list[str] = []
    assert np.array_equal(erased(opacity, "photo", notes), opacity == 0)
    assert notes == []


def test_a_photo_that_is_nowhere_wholly_transparent_says_how_far_it_is() -> None:
    photo = load_photo(np.dstack([photos.face(24, 40), np.where(HOLE, 9, 255).astype(np.uint8)]))
    with pytest.raises(ImageError, match=f"{HOLE.sum()} pixels are partly transparent, none wholly"):
        load_mask(None, photo)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_as_the_pixels_lie_is_turned_as_the_photo(tmp_path: Path, orientation: int) -> None:
    photo = load_photo(photos.turned("rgb.jpg", tmp_path, orientation, 24, 40))
    assert photo.orientation == orientation
    for size in (1, 2):
        mask = HOLE.repeat(size, 0).repeat(size, 1)
        with pytest.warns(UserWarning, match=f"its sides exchanged; turned .* .orientation {orientation}."):
            assert np.array_equal(load_mask(mask, photo), upright(HOLE, orientation))
    assert np.array_equal(load_mask(upright(HOLE, orientation), photo), upright(HOLE, orientation))


@pytest.mark.parametrize("shape", [(24, 40), (48, 80), (39, 40)])
def test_a_mask_with_exchanged_sides_is_never_stretched(shape: tuple[int, int]) -> None:
    photo = load_photo(photos.face(*shape))
    with pytest.raises(ImageError, match="with its sides exchanged, and the photo's file does not say how"):
        load_mask(np.ones(shape[::-1], np.uint8), photo)


def plain(h: int, w: int) -> Photo:
    return Photo("photo", np.zeros((h, w, 3), np.uint8), "RGB", np.zeros((h, w, 3), np.uint8))


LAYERS = st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([(), (2,), (3,), (4,)])).flatmap(
    lambda s: arrays.arrays(np.uint8, (s[0], s[1], *s[2]), elements=st.sampled_from([0, 0, 1, 2, 9, 128, 200, 255]))
)


def fuzz(count: int) -> None:
    """Read so many masks of few values, with and without opacity: a hole of the photo's size, or one sentence."""

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(
        LAYERS, st.integers(8, 24), st.integers(8, 24), st.booleans(), st.sampled_from([None, "PNG", "TIFF", "WEBP"])
    )
    def reading(layer: np.ndarray, h: int, w: int, invert: bool, format: str | None) -> None:
        picture: object = Image.fromarray(layer)
        if format is not None and not (format == "WEBP" and layer.ndim == 3 and layer.shape[2] == 2):
            picture = saved(Image.fromarray(layer), format)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                hole = load_mask(picture, plain(h, w), invert)  # type: ignore[arg-type]
            except ImageError:
                return
        assert hole.shape == (h, w)
        assert hole.dtype == np.bool_
        assert hole.any()

    reading()


def test_masks_of_any_opacity() -> None:
    fuzz(300)


@pytest.mark.slow
def test_ten_thousand_masks_of_any_opacity() -> None:
    fuzz(10_000)
