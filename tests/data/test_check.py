"""`manifill data check`: what is broken, small, repeated or ignored, in words, a file and grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from manifill.cli.data import data
from manifill.data import sources as shards_of
from manifill.data.check import examine
from manifill.data.sources import DataError


@pytest.fixture
def mess(tmp_path: Path, face: np.ndarray) -> Path:
    """A folder with something of everything that a check must find."""
    folder = tmp_path / "mess"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(6):  # different pictures
        y, x = rng.integers(0, 60, 2)
        turned = np.rot90(face[y : y + 64, x : x + 64], k % 4)
        Image.fromarray((turned * rng.uniform(0.6, 1, 3)).astype(np.uint8)).save(folder / f"{k}.png")
    Image.fromarray(face).save(folder / "face.png")
    Image.fromarray(face).save(folder / "sub" / "again.jpg", quality=60)
    Image.fromarray(face).resize((80, 80), Image.Resampling.LANCZOS).save(folder / "sub" / "small.png")
    (folder / "sub" / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "half.jpg").write_bytes((folder / "sub" / "again.jpg").read_bytes()[:900])
    Image.fromarray(face[:30, :90]).save(folder / "wide.png")
    upright = Image.Exif()
    upright[0x112] = 6
    Image.fromarray(np.ascontiguousarray(face[:40, :100][:, ::-1])).save(folder / "turned.jpg", exif=upright)
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    Image.new("RGB", (64, 64), "blue").save(folder / "blue.png")  # no shape at all, and still not the same
    (folder / "notes.txt").write_text("mine")
    (folder / "one.HEIC").write_bytes(b"...")
    return folder


def test_check_finds_what_is_wrong(mess: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = examine([mess], quiet=True)
    short = [str(Path(name).relative_to(mess)) for name in found.names]
    assert list(found.broken) == [str(mess / "half.jpg")]
    assert [[short[k] for k in group] for group in found.same_file] == [["0.png", "sub/copy.png"]]
    assert [[short[k] for k in group] for group in found.same_look] == [["face.png", "sub/again.jpg", "sub/small.png"]]
    assert [short[k] for k in found.small(50)] == ["turned.jpg", "wide.png"]
    assert found.sides[short.index("turned.jpg")].tolist() == [40, 100]  # as it is seen
    assert found.ignored == {".txt": 1, ".heic": 1}

    out = tmp_path / "out"
    assert tyro.cli(data, args=["check", str(mess), "--size", "50", "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().out
    for words in (
        "14 pictures",
        "1 broken",
        "half.jpg (image file is truncated",
        "2 below 50",
        "1 repeated file for file",
        "2 nearly the same",
        ".heic 1",
        "30 to 128 high",
    ):
        assert words in said
    written = json.loads((out / "check.json").read_text())
    assert list(written["small"]) == [str(mess / "turned.jpg"), str(mess / "wide.png")]
    for name, rows in (("samples.png", 2), ("near_duplicates.png", 1)):
        with Image.open(out / name) as sheet:
            assert sheet.height == rows * 98 + 2


def test_check_exit_codes_and_sources(
    packed: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tyro.cli(data, args=["check", str(pictures), "--quiet"]) == 0
    one, other = examine([packed / "train-000.tar"], True), examine([f"file://{packed}/train-000.tar"], True)
    assert len(one.names) == len(other.names) == 10
    assert len(one.broken) == len(other.broken) == 1
    cut = tmp_path / "cut.tar"
    cut.write_bytes((packed / "train-002.tar").read_bytes()[:30000])
    assert list(examine([cut], True).broken)[-1] == str(cut)
    monkeypatch.setattr(shards_of, "WAITS", ())
    assert f"file://{cut}" in examine([f"file://{cut}"], True).broken
    for arguments in ([], [str(tmp_path / "none")]):
        with pytest.raises(DataError, match=r"name a folder|no such file"):
            tyro.cli(data, args=["check", *arguments])
