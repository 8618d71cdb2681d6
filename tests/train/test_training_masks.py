"""Holes to train with: by preset, by name, and from files of one's own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import cli
from manifill.data import masks
from manifill.data.mask_files import MaskFiles
from manifill.data.sources import DataError
from manifill.inpainter import Inpainter
from manifill.train.config import Preset
from manifill.train.presets import PRESETS, preset


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of two masks, of another size, one that cannot be read and one without a hole."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for k in range(2):
        hole = np.zeros((128, 128), np.uint8)
        hole[40 : 60 + 20 * k, 20:100] = 255
        Image.fromarray(hole).save(folder / f"{k}.png")
    Image.new("L", (128, 128)).save(folder / "none.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", "train", *map(str, words)])
    return cli.main()


def test_the_papers_two_kinds_of_models() -> None:
    assert preset("paper-256").texture.masks == ("rectangle", "brush")
    centre = preset("paper-256+centre")
    assert centre.structure.masks == centre.texture.masks == ("centre",)
    assert replace(centre, structure=Preset().structure, texture=Preset().texture) == Preset()
    both = preset("paper-256+centre+attention-none")
    assert both.model.texture.attention == "none"
    assert both.texture.masks == ("centre",)


def test_mask_files_are_read_by_the_rule_of_masks(own: Path, capsys: pytest.CaptureFixture) -> None:
    files, rng = MaskFiles(own, 64), np.random.default_rng(0)
    drawn = masks.draw([files.draw], 20, 64, rng).numpy()
    assert drawn.shape == (20, 1, 64, 64)
    assert {float(m.sum()) for m in drawn} == {10 * 40, 20 * 40}
    said = capsys.readouterr().out
    assert "2 masks of" in said
    assert "2 left out" in said
    assert "broken.png" in said
    for name in ("0.png", "1.png"):
        (own / name).unlink()
    with pytest.raises(DataError, match="none of 2 masks could be read"):
        MaskFiles(own, 64)


def test_the_centre_model_from_the_command_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face: np.ndarray
) -> None:
    small = replace(Preset(), model=PRESETS["tiny"].model)
    monkeypatch.setitem(PRESETS, "paper-256", small)  # all of it but the sizes
    words = ["--data", pictures, "--out", tmp_path / "run", "--steps", 3, "--batch-size", 2, "--quiet", "--force"]
    assert run(monkeypatch, "all", "--preset", "paper-256+centre", *words) == 0
    for stage in ("structure", "texture"):
        assert json.loads((tmp_path / "run" / stage / "config.json").read_text())["training"]["masks"] == ["centre"]
    hole = np.zeros(face.shape[:2], np.bool_)
    hole[40:80, 40:80] = True
    assert len(list(Inpainter.from_pretrained(tmp_path / "run" / "model")(face, hole, num_samples=1, seed=0))) == 1


def test_masks_of_ones_own(
    pictures: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    where = ["--data", pictures, "--out", tmp_path / "run", "--steps", 3, "--batch-size", 2, "--quiet", "--force"]
    words = ["all", "--preset", "tiny", *where]
    assert run(monkeypatch, *words, "--mask-files", own) == 0
    assert Inpainter.from_pretrained(tmp_path / "run" / "model").image_size == 64
    settings = json.loads((tmp_path / "run" / "texture" / "config.json").read_text())
    assert settings["training"]["masks"] == ["files"]
    assert run(monkeypatch, *words, "--mask-files", own) == 0  # the same again
    (own / "1.png").unlink()
    assert run(monkeypatch, *words, "--mask-files", own) == 2
    assert "mask_files:" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--masks", "files") == 2
    assert "name their folder with --mask-files" in capsys.readouterr().err
    assert run(monkeypatch, "structure", *words[1:], "--masks", "circles") == 2
    assert "circles: no such kind of mask" in capsys.readouterr().err
