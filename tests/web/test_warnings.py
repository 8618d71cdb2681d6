"""What the command line warns of, the API's clients hear: as a field, or as a header beside a picture."""

from __future__ import annotations

import io
import json
import re
import warnings
from pathlib import Path

import numpy as np
import photo_files
import pytest
from PIL import Image, PngImagePlugin
from serving import Web, png, square_hole

from manifill import cli
from manifill.photos.mask import load_mask
from manifill.photos.photo import load_photo

pytest_plugins, pytestmark = ["web_fixtures"], pytest.mark.filterwarnings("ignore")


def grey() -> bytes:
    """A mask as JPEG leaves it: with grey around its edges."""
    buffer = io.BytesIO()
    Image.fromarray(square_hole(top=30, left=27)).save(buffer, "JPEG", quality=20)
    return buffer.getvalue()


def damaged(face: np.ndarray) -> bytes:
    """A photo whose EXIF data cannot be read."""
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG", exif=b"Exif\0\0no TIFF" + bytes(20))
    return buffer.getvalue()


def soft(face: np.ndarray) -> bytes:
    """A photo, part of which is erased with a soft brush."""
    y, x = np.mgrid[:128, :128]
    return png(np.dstack([face, (255 * ((np.hypot(y - 60, x - 60) - 20) / 6).clip(0, 1)).astype(np.uint8)]))


def ten_bits(face: np.ndarray, kind: str) -> bytes:
    """A photo of ten bits a sample, as telephones and cameras write them."""
    deep = face.astype(np.uint16) << 2 | face >> 6
    if kind == "avif":
        cv2 = pytest.importorskip("cv2")
        return cv2.imencode(".avif", deep[..., ::-1], [cv2.IMWRITE_AVIF_DEPTH, 10])[1].tobytes()
    heif, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    heif.options.SAVE_HDR_TO_12_BIT = False
    heif.encode("RGB;16", (128, 128), (deep << 6).tobytes(), buffer)
    return buffer.getvalue()


LABELS = (square_hole() > 0).astype(np.uint8)
CASES = {
    "nothing": (png, square_hole(), None),
    "a grey mask": (png, grey(), "grey values"),
    "labels": (png, LABELS * 2, "values 0 and 2|values 0, 2"),
    "a hole of nearly everything": (png, np.full((128, 128), 255, np.uint8) * (np.arange(128) > 3), "%"),
    "damaged EXIF data": (damaged, square_hole(), "EXIF"),
    "two things": (damaged, grey(), "grey values"),
    "a soft brush": (soft, None, "partly transparent"),
    "ten bits in AVIF": (lambda face: ten_bits(face, "avif"), square_hole(), "10 bits"),
    "ten bits in HEIC": (lambda face: ten_bits(face, "heif"), square_hole(), "10 bits"),
    "a mask of another shape": (png, np.pad(square_hole(), ((0, 0), (0, 30))), "stretched"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_api_says_what_the_library_warns_of(web: Web, face: np.ndarray, name: str) -> None:
    make, mask, words = CASES[name]
    photo = make(face)
    mask = png(mask) if isinstance(mask, np.ndarray) else mask
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_mask(mask, load_photo(photo))
    found = [str(warning.message) for warning in said]
    assert re.search(words, " ".join(found)) if words else not found
    answer = web.post("hole", files={"photo": photo} | ({"mask": mask} if mask else {}))
    assert answer.status_code == 200, answer.text
    assert [note.removeprefix("the ") for note in json.loads(answer.headers["x-warnings"])] == found


def test_every_answer_has_them(web: Web, face: np.ndarray) -> None:
    """A picture, several, a job, its archive, a part sampled anew."""
    files = {"photo": damaged(face), "mask": grey()}
    single = json.loads(web.post(files=files).headers["x-warnings"])
    assert len(single) >= 2
    assert single[0].startswith("the photo: damaged EXIF")
    assert web.post(files=files, num_samples=2).json()["warnings"] == single
    job = web.post("jobs", files=files).json()
    assert job["warnings"] == single
    assert web.events(f"/api/v1/jobs/{job['id']}")[-1][0] == "done"
    part = web.client.post(f"/api/v1/jobs/{job['id']}/redraw", files={"part": grey()}, data={"index": "0"}).json()
    assert any(note.startswith("the part: the mask has grey") for note in part["warnings"])


def test_the_command_line_prints_them(
    tmp_path: Path,
    face: np.ndarray,
    reference_model: Path,
    web: Web,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "p.png").write_bytes(damaged(face))
    (tmp_path / "m.jpg").write_bytes(grey())
    paths = [str(tmp_path / name) for name in ("p.png", "m.jpg")]
    arguments = ["inpaint", *paths, "-o", str(tmp_path / "out"), "-n", "1", "--model", str(reference_model)]
    monkeypatch.setattr("sys.argv", ["manifill", *arguments])
    with warnings.catch_warnings(action="always"):
        assert cli.main() == 0
    printed = re.findall(r"manifill: warning: (.*)", capsys.readouterr().err)
    heard = json.loads(web.post("hole", files={"photo": damaged(face), "mask": grey()}).headers["x-warnings"])
    for sentence, path in zip(heard, paths, strict=True):
        assert re.sub(r"^the (photo|mask):", f"{path}:", sentence) in printed


def test_a_format_that_loses_how_colours_are_seen(web: Web, face: np.ndarray) -> None:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add(b"gAMA", (100000).to_bytes(4))
    Image.fromarray(face).save(buffer, "PNG", pnginfo=info)
    job = web.post("jobs", files={"photo": buffer.getvalue(), "mask": web.mask}).json()["id"]
    web.events(f"/api/v1/jobs/{job}")
    lost, kept = (web.client.get(f"/api/v1/jobs/{job}/completions/0.{format}") for format in ("webp", "png"))
    assert "gAMA" in json.loads(lost.headers["x-warnings"])[0]
    assert Image.open(io.BytesIO(kept.content)).info["gamma"] == 1.0


def test_colours_of_sixteen_bits_are_taken(web: Web) -> None:
    deep, hole = photo_files.deep(128, 128), square_hole() > 0
    answer = web.post(files={"photo": photo_files._deep_png(deep), "mask": web.mask})
    assert answer.status_code == 200, answer.text
    found = photo_files.samples_by_others(answer.content, "RGB;16")
    assert found.dtype == np.uint16
    assert np.array_equal(found[~hole], deep[~hole])
