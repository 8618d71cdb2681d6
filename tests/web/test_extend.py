"""The HTTP API: photos that go on beyond their borders, downloads in the photo's own format, a proxy's path."""

from __future__ import annotations

import io

import httpx
import numpy as np
import photo_files
import pytest
from PIL import Image
from serving import LIMITS, Web, error, here, pixels, png

from manifill import Inpainter
from manifill.photos.decode import open_picture
from manifill.photos.photo import load_photo
from manifill.web.extend import extend

pytest_plugins = ["web_fixtures"]


def test_what_is_added_is_filled_and_the_photo_stays(web: Web, face: np.ndarray) -> None:
    photo = face[:96]
    answer = web.post(files={"photo": png(photo)}, seed=3, extend_right=32, extend_top=16)
    assert answer.status_code == 200, answer.text
    result = pixels(answer.content)
    assert result.shape == (112, 160, 3)
    assert np.array_equal(result[16:, :128], photo)
    assert result[:16].std() > 1
    assert result[16:, 128:].std() > 1


def test_a_mask_before_or_after(face: np.ndarray) -> None:
    own = np.zeros((128, 128), np.uint8)
    own[40:60, 30:50] = 255
    large = np.pad(own, ((0, 0), (64, 0)))
    holes = [extend(load_photo(face), open_picture(m, "mask"), (64, 0, 0, 0), LIMITS)[1] for m in (own, large)]
    assert np.array_equal(*holes)
    assert holes[0][:, :64].all()
    assert np.array_equal(holes[0][:, 64:], own > 0)


def test_an_inverted_mask_inverts_nothing_of_what_is_added(web: Web, face: np.ndarray) -> None:
    mask = np.full((128, 128), 255, np.uint8)
    mask[40:60, 30:50] = 0
    files = {"photo": png(face), "mask": png(mask)}
    result = pixels(web.post(files=files, seed=3, extend_left=16, invert_mask=True).content)
    assert np.array_equal(result[:, 16:][mask > 0], face[mask > 0])
    assert result[:, :16].std() > 1  # it was left black
    assert not np.array_equal(result[40:60, 46:66], face[40:60, 30:50])


def test_an_extended_photo_keeps_its_sixteen_bits() -> None:
    deep = photo_files.deep(40, 60)
    larger, hole = extend(load_photo(deep), None, (0, 8, 0, 0), LIMITS)
    assert np.array_equal(larger.samples[8:], deep)
    assert np.array_equal(hole, np.arange(48)[:, None].repeat(60, 1) < 8)


def test_what_cannot_be_added_is_said(web: Web) -> None:
    error(web.post(extend_left=65), 422, "at most half", "128x128")
    error(web.post(files={"photo": web.photo, "mask": png(np.full((9, 9), 255, np.uint8))}, extend_left=8), 422, "9x9")
    error(web.post(extend_top=-1), 422, "extend_top")


@pytest.mark.parametrize(("format", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")])
def test_a_download_has_the_format_that_is_asked_for(web: Web, format: str, kind: str) -> None:
    job = web.job(seed=1)
    web.events(job)
    answer = web.client.get(f"{job}/completions/0.{format}")
    assert answer.headers["content-type"] == f"image/{format}"
    found = Image.open(io.BytesIO(answer.content))
    assert (found.format, found.size) == (kind, (128, 128))
    exact = pixels(web.client.get(f"{job}/completions/0.png").content)
    assert np.abs(np.asarray(found.convert("RGB")).astype(int) - exact).mean() < 2
    error(web.client.get(f"{job}/completions/0.bmp"), 422, "format")
    error(web.client.get(f"{job}/completions/7.{format}"), 404, "no completion 7")


@pytest.mark.parametrize("passed_on", ["", "/fill"])
def test_behind_a_proxy_at_a_path(small: Inpainter, passed_on: str) -> None:
    with here(small, LIMITS, root_path="/fill") as web:
        base = web.url + passed_on
        for path in ("/", "/static/page.js", "/api/v1/model", "/docs", "/openapi.json"):
            assert httpx.get(base + path).status_code == 200, path
        assert f"{web.url}/fill/api/v1/inpaint" in httpx.get(f"{base}/docs").text
        assert httpx.get(f"{web.url}/fill").headers["location"] == "/fill/"


def test_head_answers(web: Web) -> None:
    for path in ("/", "/static/page.js"):
        answer = web.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 1000
