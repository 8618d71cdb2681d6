"""The command line: results where they are promised, one sentence and exit code 2 for a mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", *map(str, arguments)])
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)


def test_inpaint_writes_results_grid_and_manifest(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    photo_and_mask: tuple[Path, Path],
) -> None:
    photo, mask = photo_and_mask
    out = tmp_path / "out"
    arguments = ("inpaint", photo, mask, "-n", 3, "-o", out, "--model", reference_model, "--seed", 4, "--structures")
    assert run(monkeypatch, *arguments) == 0
    names = sorted(p.name for p in out.iterdir())
    results = [f"face_{k:03d}.png" for k in range(3)]
    structures = [f"face_{k:03d}_structure.png" for k in range(3)]
    assert names == sorted([*results, *structures, "face_grid.png", "manifest.jsonl"])
    assert str(out / "face_grid.png") in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == results
    assert [line["seed"] for line in lines] == [4, 5, 6]
    assert {
        "photo",
        "mask",
        "temperature",
        "top_k",
        "top_p",
        "model",
        "size",
        "seconds",
        "log_likelihood",
        "codes",
    } <= set(lines[0])
    known = np.asarray(Image.open(mask)) == 0
    for k, name in enumerate(results):
        with Image.open(out / name) as result:
            assert result.text["seed"] == str(4 + k)  # type: ignore[attr-defined]
            assert np.array_equal(np.asarray(result)[known], np.asarray(Image.open(photo))[known])

    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert run(monkeypatch, *arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert before == {p.name: p.read_bytes() for p in out.iterdir()}
    assert run(monkeypatch, *arguments, "--overwrite") == 0
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == results


def damaged(name: str, folder: Path, photo: Path, mask: Path, model: Path) -> tuple[Path, Path, Path, str]:
    """Return photo, mask, model and the words of the error, one of them made bad."""
    bad = folder / f"bad_{name}.png"
    if name == "no_file":
        return bad, mask, model, "bad_no_file.png: no such photo file"
    if name == "no_mask_file":
        return photo, bad, model, "bad_no_mask_file.png: no such mask file"
    if name == "folder":
        bad.mkdir()
        return bad, mask, model, "bad_folder.png: a folder or list without pictures"
    if name == "not_an_image":
        bad.write_text("hello")
        return bad, mask, model, "bad_not_an_image.png: not an image"
    if name == "truncated":
        bad.write_bytes(photo.read_bytes()[:4000])
        return bad, mask, model, "bad_truncated.png: damaged or truncated photo"
    if name == "empty_mask":
        Image.new("L", (128, 128), 0).save(bad)
        return photo, bad, model, "bad_empty_mask.png: the mask has no hole"
    copy = folder / "model"
    shutil.copytree(model, copy)
    if name == "model_file_missing":
        (copy / "texture.safetensors").unlink()
        return photo, mask, copy, "texture.safetensors: missing"
    (copy / "structure.safetensors").write_bytes(b"not one")
    return photo, mask, copy, "structure.safetensors: not a readable safetensors file"


@pytest.mark.parametrize(
    "name",
    [
        "no_file",
        "no_mask_file",
        "folder",
        "not_an_image",
        "truncated",
        "empty_mask",
        "model_file_missing",
        "model_file_foreign",
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    reference_model: Path,
    photo_and_mask: tuple[Path, Path],
    name: str,
) -> None:
    photo, mask, model, words = damaged(name, tmp_path, *photo_and_mask, reference_model)
    out = tmp_path / "out"
    assert run(monkeypatch, "inpaint", photo, mask, "-o", out, "--model", model, "-n", 1) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("arguments", [("inpaint",), ("inpaint", "a.png", "-o", "x", "-n", "many"), ("paint",)])
def test_bad_arguments(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert run(monkeypatch, *arguments) == 2


def test_a_real_process_ends_with_code_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "manifill", "inpaint", "none.png", "none.png", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "manifill: none.png: no such photo file\n")


def test_info(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, reference_model: Path, tmp_path: Path
) -> None:
    assert run(monkeypatch, "info", reference_model) == 0
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("vqvae: 0.0", "structure: ", "texture: ", "discriminator: ", "codebook_size 32")
    )
    assert run(monkeypatch, "info", tmp_path) == 2
    assert "vqvae.safetensors: missing" in capsys.readouterr().err


def test_convert_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    assert run(monkeypatch, "convert", tmp_path / "none", "--out", tmp_path / "model") == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert run(monkeypatch, "convert", tmp_path, "--out", tmp_path / "model") == 2
    assert "holds no TensorFlow checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
