"""The HTTP API: what it answers."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import cv2
import numpy as np
from PIL import Image, ImageCms
from serving import NOBODY, Web, error, expected, pixels, png, square_hole

from manifill import Fit, Inpainter

pytest_plugins = ["web_fixtures"]


def test_one_sample_is_an_image(web: Web, small: Inpainter, face: np.ndarray) -> None:
    answer = web.post(seed=7)
    assert answer.status_code == 200
    assert (answer.headers["content-type"], answer.headers["x-seed"]) == ("image/png", "7")
    result, hole = pixels(answer.content), square_hole() > 0
    assert np.array_equal(result, expected(small, face, hole, 7))
    assert np.array_equal(result[~hole], face[~hole])


def test_several_samples_are_json_and_json_asks_for_the_same(web: Web) -> None:
    asked = {"num_samples": 2, "seed": 5, "temperature": 0.8, "top_p": 0.95, "known_codes": "cells"}
    as_form = web.post(**asked).json()["completions"]
    pictures = {"photo": base64.b64encode(web.photo).decode(), "mask": base64.b64encode(web.mask).decode()}
    as_json = web.client.post("/api/v1/inpaint", json={**asked, **pictures}).json()["completions"]
    assert as_form == as_json
    assert [(c["index"], c["seed"]) for c in as_form] == [(0, 5), (1, 6)]
    assert all(c["log_likelihood"] < 0 for c in as_form)
    single = web.post(**{**asked, "num_samples": 1, "seed": 6}).content
    assert np.array_equal(pixels(base64.b64decode(as_form[1]["image"])), pixels(single))


def test_the_settings_reach_the_model(web: Web, small: Inpainter) -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (96, 200, 3), dtype=np.uint8)
    hole = np.full((96, 200), 255, np.uint8)
    hole[30:50, 90:130] = 0
    files = {"photo": png(wide), "mask": png(hole)}
    asked = {"invert_mask": True, "strategy": "crop", "crop_margin": 20, "dilate": 3, "feather": 4, "seamless": True}
    got = pixels(web.post(files=files, seed=1, **asked).content)
    fit = Fit("crop", 20, 3, 4, True)
    assert np.array_equal(got, expected(small, wide, hole == 0, 1, fit=fit))  # the dilated hole is the library's
    assert not np.array_equal(got, pixels(web.post(files=files, seed=1, invert_mask=True).content))


def test_choosing_among_many(web: Web) -> None:
    found = web.post(num_samples=2, of=4, choose="likely", seed=0).json()["completions"]
    everything = web.post(num_samples=4, seed=0).json()["completions"]
    best = sorted(everything, key=lambda c: -c["log_likelihood"])[:2]
    assert [c["seed"] for c in found] == [c["seed"] for c in best]
    assert [c["index"] for c in found] == [0, 1]


def test_a_transparent_photo_needs_no_mask(web: Web, small: Inpainter, face: np.ndarray) -> None:
    hole = square_hole() > 0
    clear = np.dstack([face, np.where(hole, 0, 255).astype(np.uint8)])
    result = pixels(web.post(files={"photo": png(clear)}, seed=2).content)
    assert np.array_equal(result[..., :3], expected(small, face, hole, 2))
    error(web.post(files={"photo": png(face)}), 400, "no mask")


def test_a_job_tells_what_happens(web: Web) -> None:
    answer = web.post("jobs", num_samples=2, seed=4)
    assert answer.status_code == 202
    accepted = answer.json()
    job = f"/api/v1/jobs/{accepted['id']}"
    assert (accepted["seeds"], accepted["events"]) == ([4, 5], f"{job}/events")
    events = web.events(job)
    kinds = [kind for kind, _ in events if kind != "queued"]
    assert kinds == ["structure"] * 2 + ["completion"] * 2 + ["done"]
    assert events[0] == ("queued", {"position": 0})
    assert events[-1][1]["seconds"] > 0
    assert web.events(job) == events  # a late listener hears it all
    for kind, data in events:
        if "image" in data:
            picture = web.client.get(data["image"])
            assert picture.headers["content-type"] == "image/png"
            assert pixels(picture.content).shape == ((64, 64, 3) if kind == "structure" else (128, 128, 3))
            if kind == "structure":
                assert (data["box"], data["angle"]) == ([0, 0, 128, 128], 0)
            if kind == "completion":
                assert data["seed"] == 4 + data["index"] == int(picture.headers["x-seed"])
                assert np.array_equal(pixels(picture.content), pixels(web.post(seed=data["seed"]).content))
                left, top, right, bottom = data["box"]
                assert (left, top, right, bottom) == (28, 28, 100, 100)
                part = pixels(web.client.get(data["patch"]).content)
                assert np.array_equal(part, pixels(picture.content)[top:bottom, left:right])


def test_a_listener_goes_on_where_it_was(web: Web) -> None:
    job = web.job()
    events = web.events(job)
    assert web.events(job, **{"Last-Event-ID": str(len(events) - 2)}) == events[-1:]
    assert web.client.get(f"{job}/events", headers={"Last-Event-ID": str(len(events) - 1)}).status_code == 204


def test_everything_in_a_zip_and_a_grid(web: Web) -> None:
    job = web.job(num_samples=2, seed=9)
    web.events(job)
    with zipfile.ZipFile(io.BytesIO(web.client.get(f"{job}/all.zip").content)) as zipped:
        assert zipped.testzip() is None
        lines = [json.loads(line) for line in zipped.read("manifest.jsonl").splitlines()]
        assert [line["seed"] for line in lines] == [9, 10]
        for k, line in enumerate(lines):
            assert zipped.read(line["file"]) == web.client.get(f"{job}/completions/{k}.png").content
    sheet = pixels(web.client.get(f"{job}/grid.png").content)
    assert sheet.shape[0] > 128
    assert sheet.shape[1] > 2 * 128


def test_a_part_is_drawn_anew(web: Web, small: Inpainter, face: np.ndarray) -> None:
    job = web.job(seed=3)
    web.events(job)
    part = square_hole(128, 32, 32, 24)
    answer = web.post(
        f"{job.removeprefix('/api/v1/')}/redraw", files={"part": png(part)}, index=0, num_samples=2, seed=50
    )
    assert answer.status_code == 202, answer.text
    again = f"/api/v1/jobs/{answer.json()['id']}"
    assert [kind for kind, _ in web.events(again)][-1] == "done"
    before, completion = (pixels(web.client.get(f"{j}/completions/0.png").content) for j in (job, again))
    assert np.array_equal(before[part == 0], completion[part == 0])
    assert not np.array_equal(before, completion)
    first = next(iter(small(face, square_hole() > 0, num_samples=1, seed=3)))
    alone = next(iter(small.redraw(first, part > 0, num_samples=1, seed=50)))
    assert np.array_equal(np.asarray(alone.image), completion)


def test_more_like_this_one(web: Web) -> None:
    job = web.job(seed=3)
    web.events(job)
    same = web.client.post(f"{job}/near", json={"index": 0, "amount": 0.0, "seed": 8})
    assert same.status_code == 202, same.text
    again = f"/api/v1/jobs/{same.json()['id']}"
    assert web.events(again)[-1][0] == "done"
    assert web.client.get(f"{again}/completions/0.png").content != b""
    assert np.array_equal(*(pixels(web.client.get(f"{j}/completions/0.png").content) for j in (job, again)))
    error(web.client.post(f"{job}/near", json={"index": 5}), 404, "completion 5")
    error(web.client.post(f"{job}/near", json={"index": 0, "amount": 2}), 422, "amount")
    error(web.client.post(f"{NOBODY}/near", json={"index": 0}), 404, "no such job")


def test_about_the_model_and_the_samples(web: Web, small: Inpainter) -> None:
    model = web.client.get("/api/v1/model").json()
    assert (model["name"], model["weights"], model["image_size"]) == ("model", small.weights, 64)
    limits = {"pixels": 1 << 20, "samples": 6, "queue": 4, "body_bytes": 4 << 20}
    assert model["limits"] == limits
    networks = (small.vqvae, small.structure, small.texture)
    assert model["parameters"] == sum(p.numel() for network in networks for p in network.parameters())
    samples = web.client.get("/api/v1/samples").json()
    assert samples
    for sample in samples:
        assert sample["alt"]
        photo, mask = (web.client.get(sample[key]).content for key in ("photo", "mask"))
        assert web.post(files={"photo": photo, "mask": mask}).status_code == 200
    assert web.client.get("/health").json() == {"status": "ok"}


def test_photos_of_many_kinds(web: Web, face: np.ndarray) -> None:
    tall = Image.fromarray(face[:, 24:104])
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112] = 6  # lies on its side
    deep = (face[..., 0].astype(np.uint16) << 8)[:, 24:104]
    kinds = [
        (tall.transpose(Image.Transpose.ROTATE_90), "JPEG", {"exif": exif, "icc_profile": profile}, "RGB"),
        (tall.convert("CMYK"), "JPEG", {}, "RGB"),
        (tall.convert("L"), "WEBP", {"lossless": True}, "RGB"),
        (tall.quantize(64), "PNG", {}, "P"),
        (tall.convert("RGBA"), "PNG", {}, "RGBA"),
        (tall, "BMP", {}, "RGB"),
        (tall.quantize(64), "GIF", {}, "P"),
        (Image.fromarray(deep), "PNG", {}, "I;16"),
    ]
    for picture, format, options, mode in kinds:
        buffer = io.BytesIO()
        picture.save(buffer, format, **options)
        answer = web.post(files={"photo": buffer.getvalue(), "mask": png(square_hole()[:, 24:104])}, seed=0)
        assert answer.status_code == 200, (format, mode, answer.text)
        result = Image.open(io.BytesIO(answer.content))
        assert (result.size, result.mode) == ((80, 128), mode)
        assert result.info.get("icc_profile") == options.get("icc_profile")
        assert result.info["seed"] == "0"
    coloured = cv2.imencode(".png", np.dstack([deep] * 3))[1].tobytes()
    answer = web.post(files={"photo": coloured, "mask": png(square_hole()[:, 24:104])}, seed=0)
    result = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert result.dtype == np.uint16
    known = square_hole()[:, 24:104] == 0
    assert np.array_equal(result[known], np.dstack([deep] * 3)[known])
