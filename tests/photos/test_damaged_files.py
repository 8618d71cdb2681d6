"""Files and arrays that are not what they say: one sentence, exit code 2, nothing written; never another exception."""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from manifill import ImageError, cli
from manifill.photos.encode import encode, format_for
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo, load_photo


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG that claims a size, whatever its data."""
    parts = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + data, b"IEND"
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">II", len(p) - 4, 0)[:4] + p + struct.pack(">I", zlib.crc32(p)) for p in parts
    )


def bomb() -> bytes:
    """Return two hundred megapixels of black in a few hundred kilobytes."""
    press = zlib.compressobj(9, wbits=-15)
    rows = press.compress(bytes(100 * (1 + 3 * 20000))) + press.flush(zlib.Z_FULL_FLUSH)
    return png_of(20000, 10000, b"\x78\xda" + 100 * rows + b"\x03\0")


def broken(photo: bytes) -> bytes:
    """Return a photo whose compressed pixels are damaged."""
    half = len(photo) // 2
    return photo[:half] + bytes(b ^ 0x5A for b in photo[half : half + 40]) + photo[half + 40 :]


GOOD = photos.KINDS["rgb.png"](64, 64)
FILES: dict[str, Callable[[], bytes]] = {
    "zero_bytes.png": lambda: b"",
    "one_byte.jpg": lambda: b"\xff",
    "text.png": lambda: b"This is not a picture.\n",
    "page.jpg": lambda: b"<!doctype html><html><body>404</body></html>",
    "drawing.png": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>",
    "archive.png": lambda: b"PK\x03\x04" + bytes(200),
    "random.webp": lambda: np.random.default_rng(0).bytes(5000),
    "header_alone.png": lambda: GOOD[:8],
    "truncated.png": lambda: GOOD[: len(GOOD) // 2],
    "damaged.png": lambda: broken(GOOD),
    "truncated.jpg": lambda: photos.KINDS["rgb.jpg"](64, 64)[:-600],
    "truncated.tif": lambda: photos.KINDS["rgb16.tif"](64, 64)[:900],
    "truncated.webp": lambda: photos.KINDS["rgb.webp"](64, 64)[:900],
    "no_pixels.png": lambda: png_of(64, 64),
    "no_width.png": lambda: png_of(0, 64),
    "bomb.png": bomb,
    "claims_much.png": lambda: png_of(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
    "claims_much.bmp": lambda: (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "one_pixel.png": lambda: photos.KINDS["rgb.png"](1, 1),
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", *map(str, arguments)])
    return cli.main()


def refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    out: Path,
    photo: Path,
    mask: Path,
    bad: Path,
    model: Path,
) -> str:
    """Check that the command line says one sentence about the bad file and writes nothing; return the sentence."""
    assert run(monkeypatch, "inpaint", photo, mask, "-o", out, "-n", 1, "--model", model) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (sentence,) = shown.err.strip().splitlines()
    assert sentence.startswith("manifill: ")
    assert str(bad) in sentence
    assert len(sentence) < 400
    assert not out.exists()
    return sentence


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path]:
    """A photo and its mask."""
    hole = np.zeros((64, 64), np.uint8)
    hole[20:40, 20:40] = 255
    Image.fromarray(hole).save(tmp_path / "good_mask.png")
    return photos.make("rgb.png", tmp_path, 64, 64), tmp_path / "good_mask.png"


@pytest.mark.parametrize("role", ["photo", "mask"])
@pytest.mark.parametrize("name", FILES)
def test_bad_files(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    good: tuple[Path, Path],
    name: str,
    role: str,
) -> None:
    bad = tmp_path / name
    bad.write_bytes(FILES[name]())
    if (name, role) == ("one_pixel.png", "mask"):  # its pixel is dark: no hole
        Image.new("L", (1, 1)).save(bad)
    photo, mask = (bad, good[1]) if role == "photo" else (good[0], bad)
    sentence = refused(monkeypatch, capsys, tmp_path / "out", photo, mask, bad, reference_model)
    if name in ("bomb.png", "claims_much.bmp"):
        assert "more pixels than are safe to decode" in sentence


@pytest.mark.parametrize("role", ["photo", "mask"])
@pytest.mark.parametrize("name", ["folder.png", "pipe.png", "socket.png", "loop.png", "dangling.png", "none.png"])
def test_what_is_no_file(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    good: tuple[Path, Path],
    name: str,
    role: str,
) -> None:
    bad = tmp_path / name
    if name == "folder.png":
        bad.mkdir()
    elif name == "pipe.png":
        os.mkfifo(bad)
    elif name == "socket.png":
        monkeypatch.chdir(tmp_path)  # its whole path may be too long
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(name)
    elif name in ("loop.png", "dangling.png"):
        bad.symlink_to(bad if name == "loop.png" else tmp_path / "nowhere")
    photo, mask = (bad, good[1]) if role == "photo" else (good[0], bad)
    refused(monkeypatch, capsys, tmp_path / "out", photo, mask, bad, reference_model)


@pytest.mark.parametrize("role", ["photo", "mask"])
def test_unreadable_files(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    good: tuple[Path, Path],
    role: str,
) -> None:
    bad = good[0] if role == "photo" else good[1]
    bad.chmod(0)
    if os.access(bad, os.R_OK):  # root reads all
        read = Path.read_bytes

        def denied(path: Path) -> bytes:
            if path == bad:
                raise PermissionError(13, "Permission denied", str(path))
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", denied)
    sentence = refused(monkeypatch, capsys, tmp_path / "out", *good, bad, reference_model)
    assert "cannot be read (Permission denied" in sentence


def test_a_place_for_results_that_cannot_be_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    good: tuple[Path, Path],
) -> None:
    out = tmp_path / "taken"
    out.write_text("a file")
    assert run(monkeypatch, "inpaint", *good, "-o", out, "-n", 1, "--model", reference_model) == 2
    assert "taken" in capsys.readouterr().err
    assert out.read_text() == "a file"


@pytest.mark.parametrize(
    "array",
    [
        np.full((64, 64, 3), np.nan),
        np.full((64, 64), np.inf, np.float32),
        np.full((64, 64, 3), 1.5, np.float16),
        np.full((64, 64, 3), 256),
        np.full((64, 64, 3), -1),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((64, 64, 5), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros(64, np.uint8),
        np.zeros((2, 64, 64, 3), np.uint8),
        np.array(7),
        np.zeros((64, 64, 3), np.bool_),
        np.zeros((64, 64), complex),
        np.full((64, 64), None),
        np.array([["a"]]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_bad_arrays(array: np.ndarray) -> None:
    photo = load_photo(photos.face(64, 64))
    with pytest.raises(ImageError, match="photo: array"):
        load_photo(array)
    if array.ndim != 3 or array.dtype != np.bool_:
        with pytest.raises(ImageError, match="mask: array"):
            load_mask(array, photo)


def test_a_picture_that_was_not_read_yet_and_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(GOOD[: len(GOOD) // 2])
    with Image.open(tmp_path / "a.png") as picture, pytest.raises(ImageError, match="damaged or truncated photo"):
        load_photo(picture)


SMALL = [make(20, 17) for kind, make in photos.KINDS.items() if not photos.needs(kind).args[0]]


PHOTO = load_photo(photos.face(16, 16))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return a file: random bytes, or a real one with bytes changed, cut out, put in or cut off."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data) - 1 if len(data) > 1 else 0))
        kind = draw(st.sampled_from(["set", "flip", "cut", "insert", "copy", "end"]))
        if kind == "set":
            new = draw(st.sampled_from([b"\0", b"\xff", b"\x7f\xff", b"\x80\0", b"\xff\xff\xff\xff", b"\0\0\0\0"]))
            data[place : place + len(new)] = new
        elif kind == "flip":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "copy":
            data[place:place] = data[: draw(st.integers(1, 60))]
        elif place > 20:
            del data[place:]
        if not data:
            break
    return bytes(data)


def attempt(load: Callable[[], object]) -> tuple[object, str]:
    """Return what was loaded and "", or None and the words of the ImageError."""
    try:
        return load(), ""
    except ImageError as error:
        return None, str(error)


def read(folder: Path, data: bytes) -> None:
    """Read a file as a photo and as a mask: one sentence, or a photo that can be written and read again."""
    path = folder / "any"
    path.write_bytes(data)
    photo, sentence = attempt(lambda: load_photo(path))
    mask, its_sentence = attempt(lambda: load_mask(path, PHOTO))
    for result, words in ((photo, sentence), (mask, its_sentence)):
        assert result is not None or (words.startswith(str(path)) and "\n" not in words)
    if not isinstance(photo, Photo):
        return
    h, w = photo.samples.shape[:2]
    assert photo.rgb.shape == (h, w, 3)
    assert photo.samples.dtype in (np.uint8, np.uint16)
    again = folder / "again"
    again.write_bytes(encode(photo, photo.samples, format_for(photo, None), None, {}))
    copy = load_photo(again)
    assert np.array_equal(copy.samples, photo.samples)
    assert np.array_equal(copy.rgb, photo.rgb)
    assert copy.info.get("icc_profile") == photo.info.get("icc_profile")


def fuzz(count: int) -> None:
    """Read that many files."""

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(files())
    def reading(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(Path(folder), data)

    reading()


def test_readers_meet_a_few_hundred_damaged_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # a larger one is only slower
    fuzz(300)


@pytest.mark.slow
def test_readers_meet_ten_thousand_damaged_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    fuzz(10_000)
