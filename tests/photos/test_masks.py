"""What is taken as the hole: white in a picture of any type and size, turned as the picture says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from PIL import Image

from manifill.photos.mask import load_mask
from manifill.photos.photo import ImageError, Photo, load_photo, upright


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
def test_a_mask_of_another_size_is_scaled_by_the_nearest_pixel(factor: int) -> None:
    large = HOLE.repeat(factor, 0).repeat(factor, 1)
    assert np.array_equal(load_mask(large, plain()), HOLE)
    photo = plain(24 * factor, 40 * factor)
    assert np.array_equal(load_mask(HOLE, photo), large)


def test_a_mask_of_another_shape_is_stretched_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="mask of 40x24 pixels, another shape than the photo's 60x24; stretched"):
        assert load_mask(HOLE, plain(24, 60)).any()


def test_a_hole_that_scaling_would_lose_is_an_error() -> None:
    hole = np.zeros((240, 400), np.bool_)
    hole[3, 3] = True
    with pytest.raises(ImageError, match="mask of 400x240 pixels has no hole left at the photo's 40x24"):
        load_mask(hole, plain())


@pytest.mark.parametrize("mask", [np.zeros((24, 40), np.float32), np.full((24, 40), np.nan), Image.new("F", (40, 24))])
def test_masks_of_fractions_are_refused(mask: np.ndarray | Image.Image) -> None:
    with pytest.raises(ImageError, match=r"mask: (array float|pixel format F)"):
        load_mask(mask, plain())
