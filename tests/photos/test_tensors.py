"""Photos and masks as people bring them."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from manifill.photos.decode import ImageError
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo, load_photo, to_pillow
from manifill.photos.tensors import marked_cells, shrink, to_tensor, to_uint8


def photo_of(rgb: np.ndarray) -> Photo:
    return Photo("photo", rgb, "RGB", rgb)


def test_grey_levels_survive_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_uint8(to_tensor(levels)), levels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, face: np.ndarray, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(face).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as file:
        wanted = np.asarray(ImageOps.exif_transpose(file))
    found = load_photo(tmp_path / "a.png").rgb
    assert np.array_equal(found, wanted)
    assert np.array_equal(found, face) == (orientation == 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes(face: np.ndarray, mode: str) -> None:
    assert load_photo(Image.fromarray(face).convert(mode)).rgb.shape == (128, 128, 3)


def test_other_modes_are_refused(tmp_path: Path) -> None:
    Image.new("F", (8, 8)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match=r"a\.tiff: pixel format F"):
        load_photo(tmp_path / "a.tiff")


def test_transparency_is_the_hole_without_a_mask(face: np.ndarray) -> None:
    alpha = np.full((128, 128), 255, np.uint8)
    alpha[10:20, 30:50] = 0
    photo = load_photo(Image.fromarray(np.dstack([face, alpha])))
    hole = load_mask(None, photo)
    assert np.array_equal(hole, alpha == 0)
    assert to_pillow(photo, photo.samples).mode == "RGBA"
    with pytest.raises(ImageError, match="no mask given"):
        load_mask(None, photo_of(face))


def test_mask_meaning(face: np.ndarray) -> None:
    photo, hole = photo_of(face), np.zeros((128, 128), np.bool_)
    hole[40:60, 50:70] = True
    for mask in (hole, hole.astype(np.uint8) * 255, Image.fromarray(hole), Image.fromarray(hole).convert("RGB")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(load_mask(mask, photo), hole)
    assert np.array_equal(load_mask(~hole, photo, invert=True), hole)


def test_mask_warnings(face: np.ndarray) -> None:
    photo, grey = photo_of(face), np.zeros((128, 128), np.uint8)
    grey[:64], grey[64:70] = 200, 100
    with pytest.warns(UserWarning, match="grey values"):
        assert load_mask(grey, photo).mean() == 0.5
    with pytest.warns(UserWarning, match="everything is hole"):
        assert load_mask(np.ones((128, 128), np.bool_), photo).all()
    most = np.ones((128, 128), np.bool_)
    most[:8] = False
    with pytest.warns(UserWarning, match="94%"):
        load_mask(most, photo)


@pytest.mark.parametrize("size", [64, 96, 128, 300])
def test_scaling_keeps_what_is_under_the_hole_out(size: int) -> None:
    rng = np.random.default_rng(0)
    rgb = np.full((size, size, 3), 90, np.uint8)
    hole = rng.random((size, size)) < 0.02
    rgb[hole] = rng.integers(0, 256, (hole.sum(), 3))
    image, mask = shrink(rgb, hole, 128)
    assert image.shape == (128, 128, 3)
    assert mask.shape == (128, 128)
    known = image[~mask]
    assert np.abs(known.astype(int) - 90).max() <= 1


def test_one_pixel_of_hole_survives_scaling() -> None:
    hole = np.zeros((1000, 1000), np.bool_)
    hole[501, 503] = True
    _, mask = shrink(np.zeros((1000, 1000, 3), np.uint8), hole, 128)
    assert 1 <= mask.sum() <= 4


@pytest.mark.parametrize("side", [9, 63, 64, 65, 96, 100, 160, 333, 1000])
def test_marks_are_those_of_a_box_filter(side: int) -> None:
    marks = np.random.default_rng(side).random((side, side)) < 3 / side
    scaled = Image.fromarray(marks.astype(np.float32)).resize((64, 64), Image.Resampling.BOX)
    assert np.array_equal(marked_cells(marks, 64), np.asarray(scaled) > 1e-6)


def test_large_squares_are_scaled_as_small_ones_are(face: np.ndarray) -> None:
    large = np.asarray(Image.fromarray(face).resize((1531, 1531), Image.Resampling.BICUBIC))
    hole = np.zeros((1531, 1531), np.bool_)
    hole[500:900, 400:800] = True
    low, low_hole = shrink(large, hole, 64)
    channels = [Image.fromarray(large[..., k].astype(np.float32)) for k in range(3)]
    exact = np.dstack([np.asarray(c.resize((64, 64), Image.Resampling.LANCZOS)) for c in channels]).clip(0, 255)
    known = ~cv2.dilate(low_hole.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert np.abs(low - exact)[known].max() < 2


def test_profile_is_kept(tmp_path: Path, face: np.ndarray) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(face).save(tmp_path / "a.png", icc_profile=profile)
    photo = load_photo(tmp_path / "a.png")
    assert photo.info["icc_profile"] == profile
    assert to_pillow(photo, photo.samples).info["icc_profile"] == profile


@pytest.mark.parametrize("bad", [np.full((9, 9), 2.0), np.zeros(4, np.uint8), np.zeros((9, 9, 2), np.float32)])
def test_bad_arrays(bad: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected uint8"):
        load_photo(bad)


def test_tensor_range() -> None:
    assert torch.equal(to_tensor(np.array([[[0, 255, 255]]], np.uint8)).flatten(), torch.tensor([-1.0, 1.0, 1.0]))
