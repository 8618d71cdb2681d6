"""The page and the server are of one mind about a photo: which way up it is, and what its mask marks."""

from __future__ import annotations

import io

import numpy as np
import photo_files as photos
import pytest
from browsing import drag, fill, hole, open_photo, picture, saved
from PIL import Image

pytest.importorskip("fastapi", reason="needs fastapi: pip install 'manifill[serve]'")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
expect, pytest_plugins = api.expect, ["page_fixtures"]
FORMATS = {"jpg": {"quality": 95}, "webp": {"lossless": True}, "png": {}}


TURNED = [("webp", 6), ("png", 3), ("jpg", 6)]
TURNED_TOO = [pytest.param(*case, marks=pytest.mark.slow) for case in (("png", 6), ("webp", 8), ("webp", 5))]


@pytest.mark.parametrize(("suffix", "orientation"), [*TURNED, *TURNED_TOO])
def test_a_photo_is_shown_painted_and_completed_one_way_up(visit, face, tmp_path, suffix, orientation):
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(face).save(path, exif=photos.exif(orientation), **FORMATS[suffix])
    upright = photos.upright_by_pillow(path)
    page = open_photo(visit(), path)
    drag(page, (20, 20), (50, 20))
    mask = hole(page)
    assert mask.shape == upright.shape[:2]
    fill(page, 1)
    result = picture(saved(page, ".tile:nth-child(1) .save"))
    away = np.abs(result[~mask].astype(int) - upright[~mask])
    assert away.max() == 0 if suffix != "jpg" else away.mean() < 3  # a JPEG's download is compressed again
    assert (result[mask] != upright[mask]).any(1).mean() > 0.8


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (0, 0, 255)])
def test_a_mask_painted_on_a_transparent_layer_means_the_same_on_the_page(visit, tmp_path, colour):
    painted = np.zeros((128, 128), np.bool_)
    painted[30:60, 40:90] = True
    rgba = np.dstack([np.where(painted[..., None], np.uint8(colour), np.uint8(255)), painted * np.uint8(255)])
    Image.fromarray(rgba.astype(np.uint8)).save(tmp_path / "mask.png")
    page = open_photo(visit())
    page.set_input_files("#mask-file", tmp_path / "mask.png")
    expect(page.locator("#live")).to_contain_text("%")
    assert np.array_equal(hole(page), painted)


def test_a_soft_edge_of_a_transparent_part_is_hole_too(visit, face, tmp_path):
    y, x = np.mgrid[:128, :128]
    alpha = (255 * ((np.hypot(y - 60, x - 60) - 20) / 6).clip(0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([face, alpha])).save(buffer, "PNG")
    (tmp_path / "soft.png").write_bytes(buffer.getvalue())
    page = open_photo(visit(), tmp_path / "soft.png")
    expect(page.locator("#live")).to_contain_text("partly transparent pixels around the transparent part")
    assert np.array_equal(hole(page), alpha < 251)
