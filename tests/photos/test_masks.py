"""What is taken as the hole: white in a picture of any type and size, turned as the picture says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from PIL import Image

from manifill.photos.decode import ImageError, open_picture
from manifill.photos.mask import layer_of, load_mask, touched
from manifill.photos.photo import Photo, load_photo, upright


def plain(height: int = 24, width: int = 40) -> Photo:
    return load_photo(photos.face(height, width))


HOLE = np.zeros((24, 40), np.bool_)
HOLE[5:9, 30:38] = True
MASKS = {
    "bits": Image.fromarray(HOLE),
    "zeros and ones": HOLE.astype(np.uint8),
    "grey": Image.fromarray(HOLE.astype(np.uint8) * 255),
    "colour": Image.fromarray(HOLE.astype(np.uint8) * 255).convert("RGB"),
    "inks": Image.fromarray(HOLE.astype(np.uint8) * 255).convert("RGB").convert("CMYK"),
    "opacity": Image.fromarray(np.dstack([HOLE.astype(np.uint8) * 255, np.full((24, 40), 255, np.uint8)])),
    "deep": HOLE.astype(np.uint16) * 65535,
    "palette": Image.fromarray(HOLE.astype(np.uint8) * 255).convert("P"),
    "integers": Image.fromarray(HOLE.astype(np.int32) * 65535),
}


@pytest.mark.parametrize("name", MASKS)
def test_white_is_hole_in_every_pixel_type(name: str) -> None:
    assert np.array_equal(load_mask(MASKS[name], plain()), HOLE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_by_its_own_orientation(tmp_path: Path, orientation: int) -> None:
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright(HOLE.astype(np.uint8) * 255, back)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_mask(tmp_path / "a.png", plain()), HOLE)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_mask_of_another_size_is_scaled(factor: int) -> None:
    large = HOLE.repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(load_mask(large, plain()), HOLE)
    photo = plain(24 * factor, 40 * factor)
    assert np.array_equal(load_mask(HOLE, photo), large)


@pytest.mark.parametrize("size", [(240, 400), (31, 50), (25, 40), (24, 41), (17, 29), (3, 5), (1, 1)])
def test_every_pixel_that_a_hole_touches_is_hole(size: tuple[int, int]) -> None:
    hole = np.random.default_rng(0).random(size) < 0.03
    hole[0, 0] = True
    wanted = np.zeros((24, 40), np.bool_)
    for y, x in np.argwhere(hole):  # the pixels whose area a pixel of the mask shares
        top, bottom = y * 24 / size[0], (y + 1) * 24 / size[0]
        left, right = x * 40 / size[1], (x + 1) * 40 / size[1]
        rows = [r for r in range(24) if r < bottom - 1e-9 and r + 1 > top + 1e-9]
        columns = [c for c in range(40) if c < right - 1e-9 and c + 1 > left + 1e-9]
        wanted[np.ix_(rows, columns)] = True
    assert np.array_equal(touched(hole, 24, 40), wanted)


def test_a_mask_of_another_shape_is_stretched_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="mask of 40x24 pixels, another shape than the photo's 60x24; stretched"):
        assert load_mask(HOLE, plain(24, 60)).any()


def test_a_hole_of_one_pixel_survives_scaling() -> None:
    hole = np.zeros((240, 400), np.bool_)
    hole[3, 3] = True
    assert np.argwhere(load_mask(hole, plain())).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((24, 40), np.float32), "has no hole"),
        (np.full((24, 40), np.nan), "mask: array float64"),
        (Image.new("F", (40, 24)), "has no hole"),
        (Image.new("F", (40, 24), -1), "values below 0"),
        (np.full((24, 40), 1.5), "mask: array float64"),
    ],
)
def test_masks_that_mark_nothing(mask: np.ndarray | Image.Image, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        load_mask(mask, plain())


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_grey_mask_stays_one_number_a_pixel(tmp_path: Path, orientation: int) -> None:
    """Three alike were looked through for colours, for a second in a photo of 12 megapixels."""
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "mask.png", exif=photos.exif(orientation))
    colours = layer_of(open_picture(tmp_path / "mask.png", "mask")).colours
    assert np.array_equal(colours[..., 2], upright(grey, orientation))
    assert colours.strides[2] == 0
