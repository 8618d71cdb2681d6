"""Folders: pairing, shares, going on after a kill, one bad file among good ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import cli, folders
from manifill.folders import Pair, share
from manifill.photo import ImageError

SIZE = 64


@pytest.fixture
def folder(tmp_path: Path, face: np.ndarray) -> Path:
    """Twelve photos, one of them in a folder, and their masks."""
    rng = np.random.default_rng(0)
    for k in range(12):
        y, x = rng.integers(0, 64, 2)
        name = f"{k:02d}" if k else "inner/00"
        for kind, picture in (("photos", face[y : y + SIZE, x : x + SIZE]), ("masks", hole(k))):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return tmp_path


def pairs(photos: Path, masks: Path | None) -> tuple[list[Pair], list[str]]:
    return folders.pairs(photos, masks, photos.parent / "out")


def hole(k: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8 + k : 32 + k, 10:40] = 255
    return mask


def command(folder: Path, out: Path, model: Path, *more: object) -> list[str]:
    given = (folder / "photos", folder / "masks", "-o", out, "-n", 2, "--seed", 0, "--model", model, *more)
    return [sys.executable, "-m", "manifill", "inpaint", *map(str, given)]


def files(out: Path) -> dict[str, bytes | list[dict]]:
    """Return everything in a folder of results, manifests without their times."""
    found: dict[str, bytes | list[dict]] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[path.name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        else:
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def test_pairing(tmp_path: Path) -> None:
    for name in ("p/a.jpg", "p/b.PNG", "p/sub/c.png", "p/d.png", "m/a.png", "m/b_mask.png", "m/sub/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found, lonely = pairs(tmp_path / "p", tmp_path / "m")
    assert [(p.name, p.mask.name if p.mask else None) for p in found] == [
        ("a", "a.png"), ("b", "b_mask.png"), ("sub/c", "c.png")]  # fmt: skip
    assert len(lonely) == 1
    assert "d.png" in lonely[0]
    assert len(pairs(tmp_path / "p", tmp_path / "m" / "a.png")[0]) == 4
    for name in ("m/d_mask000.png", "m/d_mask001.png"):
        (tmp_path / name).touch()
    assert [p.name for p in pairs(tmp_path / "p" / "d.png", tmp_path / "m")[0]] == ["d_mask000", "d_mask001"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="none of 4 photos has a mask"):
        pairs(tmp_path / "p", tmp_path / "empty")
    (tmp_path / "p" / "a.png").touch()
    with pytest.raises(ImageError, match="would have one name, a"):
        pairs(tmp_path / "p", tmp_path / "m")


def test_photos_and_masks_in_one_folder_and_lists(tmp_path: Path) -> None:
    for name in ("a.png", "a_mask001.png", "b.png", "b_mask.png"):
        (tmp_path / name).touch()
    assert [(p.photo.name, p.name) for p in pairs(tmp_path, tmp_path)[0]] == [("a.png", "a"), ("b.png", "b")]
    (tmp_path / "list.txt").write_text("a.png\ta_mask001.png\nb.png\n")
    found, _ = pairs(tmp_path / "list.txt", None)
    assert [(p.photo.name, p.mask and p.mask.name) for p in found] == [("a.png", "a_mask001.png"), ("b.png", None)]


def test_shares_are_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = pairs(folder / "photos", folder / "masks")
    parts = [share(found, f"{i}/3")[0] for i in range(3)]
    assert sorted(p.name for part in parts for p in part) == sorted(p.name for p in found)
    assert share(found, "1/3")[1] == "_1of3"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share(found, None)[0] == parts[1]
    with pytest.raises(ValueError, match="expected i/n"):
        share(found, "3/3")


def test_shards_write_what_one_run_writes(folder: Path, tmp_path: Path, reference_model: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run(command(folder, whole, reference_model), check=True, capture_output=True)
    environment = os.environ | {"WORLD_SIZE": "2"}
    for rank in range(2):
        run = command(folder, parts, reference_model)
        subprocess.run(run, check=True, capture_output=True, env=environment | {"RANK": str(rank)})
    one, two = files(whole), files(parts)
    lines = [line for k in range(2) for line in two.pop(f"manifest_{k}of2.jsonl")]
    assert sorted(map(str, lines)) == sorted(map(str, one.pop("manifest.jsonl")))
    assert one == two


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_goes_on_after_a_kill(folder: Path, tmp_path: Path, reference_model: Path, how: signal.Signals) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(folder, whole, reference_model), check=True, capture_output=True)
    process = subprocess.Popen(command(folder, killed, reference_model), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while len(list(killed.rglob("*.png"))) < 7:
        assert process.poll() is None, "over before it was killed"
        time.sleep(0.005)
    process.send_signal(how)
    assert process.wait(20) != 0
    assert len(list(killed.rglob("*_grid.png"))) < 12
    done = subprocess.run(command(folder, killed, reference_model, "--skip-existing"), check=True, capture_output=True)
    assert b" 0 skipped" not in done.stdout
    assert files(whole) == files(killed)


def test_one_bad_file_does_not_stop_the_rest(
    folder: Path, tmp_path: Path, reference_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (folder / "photos" / "03.png").write_bytes(b"no picture")
    (folder / "masks" / "05.png").unlink()
    arguments = command(folder, tmp_path / "out", reference_model, "--limit", 5)[3:]
    monkeypatch.setattr(sys, "argv", ["manifill", *arguments])
    assert cli.main() == 1
    said = capsys.readouterr()
    assert "4 photos, 0 skipped, 2 failed" in said.out
    assert "03.png: not an image" in said.err
    assert "05.png: no mask" in said.err
    assert len(list((tmp_path / "out").rglob("*_grid.png"))) == 4
