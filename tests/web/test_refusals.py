"""What the HTTP API refuses, and in which words."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest
from serving import LIMITS, NOBODY, Web, error, here, png, until

from manifill import Inpainter

pytest_plugins = ["web_fixtures"]


def bomb() -> bytes:
    """A small PNG that says it has 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_pictures_that_cannot_be_taken(web: Web, face: np.ndarray) -> None:
    def sent(photo: bytes, mask: bytes | None = None) -> httpx.Response:
        return web.post(files={"photo": photo, "mask": web.mask if mask is None else mask})

    error(sent(bomb()), 413, "photo", "pixels")
    error(sent(web.photo, bomb()), 413, "mask", "pixels")
    error(sent(png(np.zeros((1025, 1024), np.uint8))), 413, "1024x1025", "1048576")
    error(sent(b"not a picture"), 400, "photo", "not a picture")
    error(sent(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 400, "not a picture")
    error(sent(web.photo[: len(web.photo) // 2]), 400, "photo", "truncated")
    error(sent(web.photo, b""), 400, "no mask")
    error(sent(b""), 422, "photo is missing")
    error(sent(web.photo, png(np.zeros((128, 128), np.uint8))), 400, "no hole")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"num_samples": 0}, 422, ("num_samples is '0'", "greater")),
        ({"num_samples": 7}, 422, ("7 samples", "6")),
        ({"of": 7}, 422, ("7 samples", "6")),
        ({"num_samples": 3, "of": 2}, 400, ("of is 2",)),
        ({"num_samples": "many"}, 422, ("num_samples", "integer")),
        ({"seed": -2}, 422, ("seed", "-1")),
        ({"seed": 1 << 40}, 422, ("seed",)),
        ({"seed": "9" * 5000}, 422, ("seed",)),
        ({"temperature": 0}, 422, ("temperature",)),
        ({"temperature": "nan"}, 422, ("temperature",)),
        ({"temperature": "inf"}, 422, ("temperature",)),
        ({"top_p": 1.5}, 422, ("top_p",)),
        ({"top_k": -1}, 422, ("top_k",)),
        ({"known_codes": "some"}, 422, ("known_codes", "exact")),
        ({"strategy": "best"}, 422, ("strategy", "crop")),
        ({"dilate": 10**6}, 422, ("dilate",)),
        ({"choose": "nice", "of": 4}, 422, ("choose",)),
        ({"colour": "red"}, 422, ("colour", "no field", "num_samples")),
        ({"photo": "face.png"}, 422, ("photo",)),
    ],
)
def test_values_that_cannot_be_used(web: Web, fields: dict[str, object], status: int, words: tuple[str, ...]) -> None:
    files = {"photo": web.photo, "mask": web.mask} if "photo" not in fields else {"mask": web.mask}
    error(web.post(files=files, **fields), status, *words)


FORM = "multipart/form-data; boundary=X"
PART = b'--X\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\nabc'


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"hello", 415),
        ("", b"hello", 415),
        ("application/x-www-form-urlencoded", b"photo=1", 415),
        ("multipart/form-data", PART + b"\r\n--X--\r\n", 400),
        (FORM, b"no form at all", 400),
        (FORM, b"", 400),
        (FORM, PART, 400),
        (FORM, b"--X\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--X--\r\n", 400),
        (FORM, b"--X\r\n\r\nabc\r\n--X--\r\n", 400),
        (FORM, b"--X\r\n" + b"A" * 100_000 + b": b\r\n\r\nabc\r\n--X--\r\n", 400),
        (FORM, PART + b"\r\n" + PART + b"\r\n--X--\r\n", 422),
        (FORM, b"".join(PART.replace(b"photo", b"p%d" % k) + b"\r\n" for k in range(40)) + b"--X--\r\n", 400),
        (FORM, PART.replace(b"photo", b"colour") + b"\r\n--X--\r\n", 422),
        (FORM, PART.replace(b"; filename", b"; other") + b"\r\n--X--\r\n", 422),
        ("multipart/form-data; boundary=" + "X" * 300, PART, 400),
        ("application/json", b"{", 400),
        ("application/json", b"\xff\xfe{}", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b"[1]", 422),
        ("application/json", b"null", 422),
        ("application/json", b"{}", 422),
        ("application/json", b'{"photo": 5}', 422),
        ("application/json", b'{"photo": "@@@"}', 400),
        ("application/json", b'{"photo": "abc"}', 400),
        ("application/json", b'{"photo": "\\ud800"}', 400),
        ("application/json", b'{"photo": "YWJj", "seed": 1e999}', 422),
        ("application/json", b'{"photo": "YWJj", "temperature": NaN}', 422),
        ("application/json", b'{"photo": "YWJj", "seed": {"a": [1]}}', 422),
        ("application/json", b'{"photo": "YWJj", "seed": "1"}', 422),
        ("application/json", b'{"photo": "YWJj", "temperature": true}', 422),
        ("application/json", b'{"photo": "YWJj", "seamless": 1}', 422),
    ],
)
def test_bodies_that_are_malformed(web: Web, kind: str, body: bytes, status: int) -> None:
    error(web.client.post("/api/v1/inpaint", content=body, headers={"content-type": kind}), status)


def test_too_large_a_body_is_refused_before_and_while_it_is_read(web: Web) -> None:
    large = {"photo": b"x" * (LIMITS.body_bytes + 1)}
    error(web.post(files=large), 413, "bytes")

    def pieces() -> Iterator[bytes]:
        yield PART
        for _ in range(80):
            yield b"x" * (1 << 16)

    answer = web.client.post("/api/v1/inpaint", content=pieces(), headers={"content-type": FORM})
    error(answer, 413, "bytes")


def test_an_upload_that_stalls_is_given_up(small: Inpainter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def pieces() -> Iterator[bytes]:
        yield PART
        until(lambda: any(" 408 " in line for line in caplog.messages))

    with here(small, replace(LIMITS, stall_seconds=0.3)) as web:
        answer = web.client.post("/api/v1/inpaint", content=pieces(), headers={"content-type": FORM})
        error(answer, 408, "seconds")
        assert web.state.uploads.bytes == 0


def test_paths_that_do_not_exist(web: Web) -> None:
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/..%2f..%2fapp.py",
        "/nowhere",
    ):
        error(web.client.get(path), 404, "no such page")
    for path in ("events", "structures/0.png", "completions/0.png", "grid.png", "all.zip"):
        error(web.client.get(f"{NOBODY}/{path}"), 404, "no such job")
    error(web.client.get(f"{NOBODY}/completions/..%2f0.png"), 404)
    job = web.job()
    web.events(job)
    error(web.client.get(f"{job}/completions/one.png"), 422, "index")
    error(web.client.get(f"{job}/completions/1.png"), 404, "completion 1")
    error(web.client.get(f"{job}/structures/-1.png"), 404, "structure -1")
    answer = web.client.put("/api/v1/inpaint")
    error(answer, 405, "PUT")
    assert answer.headers["allow"] == "POST"
