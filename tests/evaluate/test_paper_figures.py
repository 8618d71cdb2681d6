"""The paper's figures of one's own model and pictures, by one command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manifill import cli
from manifill.evaluate.paper_figures import coloured


@pytest.fixture
def photos(tmp_path: Path, pictures: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for file in sorted(pictures.iterdir())[:2]:
        shutil.copy(file, tmp_path / "photos")
    return tmp_path / "photos"


def test_figures(
    photos: Path, reference_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, run, side = tmp_path / "out", tmp_path / "run", 64
    for variant in ("attention-none", "losses-none", "attention-full-structural"):
        shutil.copytree(reference_model, run / variant / "model")
    (tmp_path / "others").mkdir()
    for file in photos.iterdir():
        Image.open(file).convert("RGB").resize((side, side)).save(tmp_path / "others" / f"{file.stem}.png")
    words = ["--data", photos, "--model", reference_model, "--out", out, "--samples", 2, "--run", run]
    monkeypatch.setattr(sys, "argv", ["manifill", "figures", *map(str, [*words, "--pred", tmp_path / "others"])])
    assert cli.main() == 0
    names = ["figure1", "figure2", "figure3", "figure5", "figure6"]
    assert capsys.readouterr().out.split() == [str(out / f"{name}.png") for name in names]
    sheets = {name: np.asarray(Image.open(out / f"{name}.png")) for name in names}
    assert sheets["figure1"].shape == (4 * (side + 2) + 2, 3 * (side + 2) + 2, 3)
    assert sheets["figure2"].shape == (2 * (side + 2) + 2, 6 * (side + 2) + 2, 3)
    photo, shown = sheets["figure2"][2 : 2 + side, 2 : 2 + side], sheets["figure3"][19 : 19 + side, 5 : 5 + side]
    assert np.array_equal(photo, shown)
    first, second = sheets["figure5"], sheets["figure6"]
    assert first.shape == second.shape  # three boxes of three variants; one differs in name alone
    assert not np.array_equal(first, second)


def test_folders_of_results_are_checked_before_anything_is_painted(
    photos: Path, reference_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    first, second = sorted(photos.iterdir())
    (tmp_path / "others").mkdir()
    for name in (f"{first.stem}.png", f"{second.stem}_000.png", f"{second.stem}_001.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / "others" / name)
    words = ["--data", photos, "--model", reference_model, "--out", tmp_path / "out", "--pred", tmp_path / "others"]
    monkeypatch.setattr(sys, "argv", ["manifill", "figures", *map(str, words)])
    assert cli.main() == 2
    assert f"2 results for {second}, 1 for the pictures before" in capsys.readouterr().err


def test_codes_of_like_prototypes_have_like_colours() -> None:
    codebook = torch.arange(16.0)[:, None] * torch.tensor([[1.0, 2.0, 0.5, 0.0]]) + 0.01 * torch.randn(16, 4)
    shown = coloured(codebook, torch.tensor([[[0, 1], [15, 0]]]), 8).astype(int)
    assert shown.shape == (1, 8, 8, 3)
    assert (shown[0, :4, :4] == shown[0, 7, 7]).all()  # a square a code
    red = shown[0, ::4, ::4, 0]
    assert abs(red[0, 1] - red[0, 0]) < abs(red[1, 0] - red[0, 0]) == 255
