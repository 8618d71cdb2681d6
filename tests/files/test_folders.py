"""Whole folders: going on after an interruption, shares of the work, bad files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from PIL import Image

from manifill import cli
from manifill.files.pairs import list_pictures, pairs

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, reference_model: Path) -> Run:
    """Return the command line with the tiny model, to be called with further arguments."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", command(reference_model, *arguments)[2:])
        return cli.main()

    return call


def command(model: Path, *arguments: object) -> list[str]:
    """Return the command line that completes photos with the tiny model, twice each."""
    fixed = ("manifill", "inpaint", "--model", model, "--seed", 0, "-n", 2, "--device", "cpu")
    return [sys.executable, "-m", *map(str, (*fixed, *arguments))]


def folder_of(place: Path, count: int) -> tuple[Path, Path]:
    """Make a folder of photos of many sizes and kinds, and one of their masks."""
    kinds = ["rgb.png", "rgb.jpg", "alpha.png", "grey.png", "palette.png", "rgb16.png"]
    for k in range(count):
        kind, (h, w) = kinds[k % len(kinds)], (40 + k, 70 - k // 2)
        photo = place / "photos" / f"group {k % 3}" / f"{k:02d}{Path(kind).suffix}"
        mask = place / "masks" / f"group {k % 3}" / f"{k:02d}_mask.png"
        for path in (photo, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(photos.KINDS[kind](h, w))
        hole = np.zeros((h, w), np.bool_)
        hole[10 : 14 + k % 17, 12:30] = True
        Image.fromarray(hole).save(mask)
    return place / "photos", place / "masks"


def content(out: Path) -> dict[str, bytes]:
    """Return all files of results but manifests."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".jsonl"
    }


def lines(out: Path, manifest: str = "manifest.jsonl") -> list[dict]:
    """Return a manifest but for the seconds."""
    found = [json.loads(line) for line in (out / manifest).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def test_a_folder(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, masks = folder_of(tmp_path, 6)
    assert run(whole, masks, "-o", tmp_path / "out", "--structures") == 0
    found = content(tmp_path / "out")
    wanted = {
        f"group {k % 3}/{k:02d}_{s}.png"
        for k in range(6)
        for s in ("000", "001", "grid", "000_structure", "001_structure")
    }
    assert set(found) == wanted
    manifest = lines(tmp_path / "out")
    assert [line["file"] for line in manifest] == [
        f"group {g}/{k:02d}_{s:03d}.png" for g in range(3) for k in range(g, 6, 3) for s in range(2)
    ]
    assert {line["mask"] for line in manifest} == {str(p) for p in list_pictures(masks)}
    shown = capsys.readouterr()
    assert "12 completions of 6 photos, 0 skipped, 0 failed, seeds 0 to 1" in shown.out
    assert "6/6" in shown.err  # progress

    assert run(whole, masks, "-o", tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err
    assert content(tmp_path / "out") == found
    assert run(whole, masks, "-o", tmp_path / "out", "--overwrite", "--structures", "--limit", 2) == 0
    assert content(tmp_path / "out") == found
    assert sorted(map(str, lines(tmp_path / "out"))) == sorted(map(str, manifest))


def test_each_photo_alone_gives_the_same(run: Run, tmp_path: Path) -> None:
    whole, masks = folder_of(tmp_path, 4)
    assert run(whole, masks, "-o", tmp_path / "out") == 0
    for pair in pairs(whole, masks, tmp_path / "out")[0]:
        assert run(pair.photo, pair.mask, "-o", tmp_path / "alone" / Path(pair.name).parent) == 0
    assert content(tmp_path / "alone") == content(tmp_path / "out")


def test_limit_then_the_rest(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, masks = folder_of(tmp_path, 5)
    assert run(whole, masks, "-o", tmp_path / "all") == 0
    assert run(whole, masks, "-o", tmp_path / "out", "--limit", 2) == 0
    assert len(content(tmp_path / "out")) == 6
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    assert run(whole, masks, "-o", tmp_path / "out", "--skip-existing") == 0
    assert "6 completions of 3 photos, 2 skipped" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert content(tmp_path / "out") == content(tmp_path / "all")
    assert lines(tmp_path / "out") == lines(tmp_path / "all")
    assert run(whole, masks, "-o", tmp_path / "out", "--limit", 0) == 2


def test_shares_give_the_same_as_the_whole(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, masks = folder_of(tmp_path, 7)
    assert run(whole, masks, "-o", tmp_path / "all") == 0
    for i in range(3):
        assert run(whole, masks, "-o", tmp_path / "shards", "--shard", f"{i}/3") == 0
    for i in range(2):
        monkeypatch.setenv("RANK", str(i))
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert run(whole, masks, "-o", tmp_path / "ranks") == 0
    for name, n in (("shards", 3), ("ranks", 2)):
        assert content(tmp_path / name) == content(tmp_path / "all")
        parts = [line for i in range(n) for line in lines(tmp_path / name, f"manifest_{i}of{n}.jsonl")]
        assert sorted(map(str, parts)) == sorted(map(str, lines(tmp_path / "all")))


def test_a_share_of_one_photo_counts_its_failure(run: Run, tmp_path: Path) -> None:
    whole, masks = folder_of(tmp_path, 2)
    (whole / "group 1" / "01.jpg").write_bytes(b"no picture")
    assert run(whole, masks, "-o", tmp_path / "out", "--shard", "0/2") == 0
    assert run(whole, masks, "-o", tmp_path / "out", "--shard", "1/2") == 1


def test_bad_files_do_not_stop_the_rest(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, masks = folder_of(tmp_path, 7)
    assert run(whole, masks, "-o", tmp_path / "all") == 0
    good = content(tmp_path / "all")
    (whole / "group 0" / "00.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(masks / "group 1" / "01_mask.png")  # no hole
    (masks / "group 2" / "02_mask.png").unlink()
    (whole / "group 0" / "folder.png").mkdir()
    (masks / "group 0" / "folder.png").touch()
    (whole / "group 1" / "04.png").chmod(0)
    capsys.readouterr()
    assert run(whole, masks, "-o", tmp_path / "out") == 1
    shown = capsys.readouterr()
    failed = [line for line in shown.err.splitlines() if line.startswith("manifill: failed: ")]
    unreadable = not os.access(whole / "group 1" / "04.png", os.R_OK)
    assert len(failed) == 4 + unreadable
    assert f"{len(failed)} failed" in shown.out
    bad = {"00": "not an image", "01": "the mask has no hole", "02": "no mask of its name", "folder": "not a file"}
    bad |= {"04": "cannot be read"} if unreadable else {}
    for name, words in bad.items():
        assert any(f"{name}." in line and words in line for line in failed)
    rest = {name: data for name, data in good.items() if name.split("/")[1][:2] not in bad}
    assert content(tmp_path / "out") == rest
    assert {line["file"] for line in lines(tmp_path / "out")} == {name for name in rest if "grid" not in name}


def test_a_photo_that_the_format_cannot_hold_does_not_stop_the_rest(run: Run, tmp_path: Path) -> None:
    whole, masks = folder_of(tmp_path, 6)
    assert run(whole, masks, "-o", tmp_path / "out", "--format", "jpeg", "--quality", 80) == 1
    names = {name for name in content(tmp_path / "out") if not name.endswith("grid.png")}
    assert names == {f"group {k % 3}/{k:02d}_{s:03d}.jpg" for k in (0, 1, 3, 4) for s in range(2)}


def test_inks_are_written_as_tiff_and_skipped_next_time(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole, masks = folder_of(tmp_path, 2)
    photos.make("inks.jpg", whole / "group 0", 50, 60)
    Image.fromarray(np.eye(50, 60, dtype=bool)).save(masks / "group 0" / "inks.png")
    assert run(whole, masks, "-o", tmp_path / "out") == 0
    assert {"group 0/inks_000.tif", "group 0/inks_grid.png"} <= set(content(tmp_path / "out"))
    capsys.readouterr()
    assert run(whole, masks, "-o", tmp_path / "out", "--skip-existing") == 0
    assert "0 completions of 0 photos, 3 skipped" in capsys.readouterr().out
    assert run(whole, masks, "-o", tmp_path / "out") == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--temperature", "0"), "temperature is 0"),
        (("-n", "0"), "num_samples is 0"),
        (("--of", "1"), "of is 1"),
        (("--seed", "-7"), "seed is -7"),
        (("--quality", "90"), "quality is 90"),
        (("--shard", "3/2"), "shard is '3/2'"),
        (("--format", "jpeg", "--quality", "0"), "quality is 0"),
        (("--overwrite", "--skip-existing"), "contradict"),
        (("--feather", "-1"), "feather is -1"),
        (("--limit", "-1"), "limit is -1"),
        (("--near", "x"), "one photo"),
        (("--model", "no such"), "no such model"),
    ],
)
def test_what_is_wrong_for_all_is_said_once_and_nothing_is_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture, options: tuple[str, ...], words: str
) -> None:
    whole, masks = folder_of(tmp_path, 3)
    try:
        code = run(whole, masks, "-o", tmp_path / "out", *options)
    except SystemExit as stop:  # tyro has found it
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def until(process: subprocess.Popen, manifest: Path, count: int) -> None:
    """Wait until a manifest has so many lines."""
    deadline = time.monotonic() + 120
    while not manifest.exists() or manifest.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("photos", [20, pytest.param(50, marks=pytest.mark.slow)])
def test_an_interrupted_folder_is_finished_as_if_nothing_had_been(
    run: Run, tmp_path: Path, reference_model: Path, photos: int
) -> None:
    """Two completions a photo; it is stopped early, as it goes on while this process waits for its turn."""
    whole, masks = folder_of(tmp_path, photos)
    assert run(whole, masks, "-o", tmp_path / "all") == 0
    out = tmp_path / "out"
    arguments = command(reference_model, whole, masks, "-o", out, "--skip-existing")
    for stop, count, code in ((signal.SIGKILL, 3, -signal.SIGKILL), (signal.SIGINT, photos // 2, 130)):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until(process, out / "manifest.jsonl", count)
            process.send_signal(stop)
            _, said = process.communicate(timeout=60)
        assert process.returncode == code
        assert (stop == signal.SIGKILL) or said.strip().endswith("manifill: interrupted")
        for path in out.rglob("*"):  # nothing is half written
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
        assert stop == signal.SIGKILL or not list(out.rglob("*.part"))
    with (out / "manifest.jsonl").open("a") as file:  # what a kill may leave: a line cut short, part of a file
        file.write('{"photo": "a.png", "fi')
    unfinished = next(
        p for p in list_pictures(tmp_path / "all") if not (out / p.relative_to(tmp_path / "all")).exists()
    )
    part = out / unfinished.relative_to(tmp_path / "all").with_suffix(".png.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"half")
    assert run(whole, masks, "-o", out, "--skip-existing") == 0
    assert content(out) == content(tmp_path / "all")
    assert lines(out) == lines(tmp_path / "all")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_real_processes_divide_the_work_and_a_failure_stops_no_other(
    run: Run, tmp_path: Path, reference_model: Path, launcher: str
) -> None:
    if shutil.which(launcher) is None and not (Path(sys.executable).parent / launcher).exists():
        pytest.skip(f"{launcher} is not installed")
    whole, masks = folder_of(tmp_path, 12)
    assert run(whole, masks, "-o", tmp_path / "all") == 0
    start = {
        "torchrun": ["--standalone", "--nproc-per-node", "2", "-m"],
        "accelerate": ["launch", "--multi_gpu", "--num_processes", "2", "-m"],
    }[launcher]
    base = [str(Path(sys.executable).parent / launcher), *start]

    def launch(out: Path) -> int:
        arguments = command(reference_model, whole, masks, "-o", out)[2:]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([*base, *arguments], env=environment, capture_output=True, check=False).returncode

    assert launch(tmp_path / "out") == 0
    assert content(tmp_path / "out") == content(tmp_path / "all")
    parts = [line for i in range(2) for line in lines(tmp_path / "out", f"manifest_{i}of2.jsonl")]
    assert sorted(map(str, parts)) == sorted(map(str, lines(tmp_path / "all")))
    for k in range(0, 12, 2):  # one process has nothing but bad files, and is done at once
        pair = pairs(whole, masks, tmp_path / "bad")[0][k]
        pair.photo.write_bytes(b"no picture")
    assert launch(tmp_path / "bad") != 0
    assert len(content(tmp_path / "bad")) == 6 * 3
