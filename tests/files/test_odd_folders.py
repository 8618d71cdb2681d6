"""Folders as people have them: one photo's trouble, an odd name, a link or a second process stops nobody."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifill import ImageError, cli
from manifill.cli.terminal import printable
from manifill.files import batch
from manifill.files.pairs import Pair, list_pictures, pairs
from manifill.files.results import Output

DATA = photos.KINDS["rgb.png"](16, 16)
NOWHERE = Path("no results here")
Run = Callable[..., int]


def folder_of(place: Path, *names: str | bytes) -> Path:
    """Make a folder of small photos."""
    for name in names:
        path = place / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DATA)
    return place


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    Image.fromarray(np.eye(16, dtype=bool)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, reference_model: Path) -> Run:
    """Return the command line with the tiny model, to be called with further arguments."""

    def call(*arguments: object) -> int:
        fixed = ("manifill", "inpaint", "--model", reference_model, "--seed", 0, "-n", 1, "--device", "cpu")
        monkeypatch.setattr(sys, "argv", [str(a) for a in (*fixed, *arguments)])
        return cli.main()

    return call


def done(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix().removesuffix("_000.png") for path in out.rglob("*_000.png")}


@pytest.mark.parametrize(
    "error",
    [
        IndexError("index 200 is out of bounds"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        RuntimeError("a decoder failed"),
        RecursionError(),
        UnicodeError("no"),
        MemoryError(),
    ],
    ids=repr,
)
def test_whatever_happens_to_one_the_others_are_done(
    run: Run,
    tmp_path: Path,
    mask: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    error: Exception,
) -> None:
    format_for = batch.format_for

    def failing(photo, *more):
        if photo.name.endswith("b.png"):
            raise error
        return format_for(photo, *more)

    monkeypatch.setattr(batch, "format_for", failing)
    assert run(folder_of(tmp_path / "p", "a.png", "b.png", "c.png"), mask, "-o", tmp_path / "out") == 1
    assert done(tmp_path / "out") == {"a", "c"}
    shown = capsys.readouterr()
    assert "1 failed" in shown.out
    (line,) = [line for line in shown.err.splitlines() if line.startswith("manifill: failed: ")]
    assert str(tmp_path / "p" / "b.png") in line


def test_a_full_disk_ends_the_run_at_once(
    run: Run, tmp_path: Path, mask: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tried = []

    def full(photo, *_):
        tried.append(photo)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(batch, "format_for", full)
    assert run(folder_of(tmp_path / "p", "a.png", "b.png"), mask, "-o", tmp_path / "out") == 2
    assert len(tried) == 1
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize(("letter", "count"), [("n", 248), ("\u5199", 82), ("n", 243), ("\u00e9", 125)])
def test_a_name_too_long_for_results_is_listed(
    run: Run, tmp_path: Path, mask: Path, capsys: pytest.CaptureFixture, letter: str, count: int
) -> None:
    assert (
        run(
            folder_of(tmp_path / "p", "a.png", f"{letter * count}.png", "z.png"),
            mask,
            "-o",
            tmp_path / "out",
            "--skip-existing",
        )
        == 1
    )
    assert done(tmp_path / "out") == {"a", "z"}
    assert "the result's name is too long for this system" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_names_that_cannot_be_shown_are_escaped(
    tmp_path: Path, mask: Path, reference_model: Path, encoding: str
) -> None:
    folder_of(tmp_path / "p", b"caf\xe9.png", "\U0001f600.png", "line\nbreak.png", "esc\x1b[2J.png")
    command = [
        sys.executable,
        "-m",
        "manifill",
        "inpaint",
        tmp_path / "p",
        mask,
        "-o",
        tmp_path / "out",
        "-n",
        "1",
        "--model",
        reference_model,
    ]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    found = subprocess.run(list(map(str, command)), env=environment, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    assert len(done(tmp_path / "out")) == 4
    assert b"line\\nbreak" in found.stdout
    assert b"\x1b" not in found.stdout
    assert len((tmp_path / "out" / "manifest.jsonl").read_bytes().splitlines()) == 4


def test_a_second_process_is_refused_and_the_first_ends_whole(
    run: Run, tmp_path: Path, mask: Path, capsys: pytest.CaptureFixture
) -> None:
    whole, out = folder_of(tmp_path / "p", "a.png", "b.png"), tmp_path / "out"
    with Output(out).held():
        assert run(whole, mask, "-o", out) == 2
        assert "another process is writing results here" in capsys.readouterr().err
        assert not out.exists()
        (tmp_path / "linked").symlink_to(out)
        assert run(whole, mask, "-o", tmp_path / "linked") == 2  # the same folder by another name
        assert run(whole, mask, "-o", tmp_path / "other") == 0
        assert run(whole, mask, "-o", out, "--shard", "0/2") == 0  # whose manifest is another
    assert run(whole, mask, "-o", out, "--skip-existing") == 0
    files = [json.loads(line)["file"] for m in out.glob("manifest*.jsonl") for line in m.read_text().splitlines()]
    assert sorted(files) == ["a_000.png", "b_000.png"]


def paired(where: Path, masks: Path | None = None) -> list[str]:
    return [pair.name for pair in pairs(where, masks, NOWHERE)[0]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "crlf"])
def test_lists_as_editors_save_them(tmp_path: Path, encoding: str) -> None:
    folder_of(tmp_path, "a/\u00e9.png", "b.png")
    text = "a/\u00e9.png\nb.png\n"
    data = {"crlf": text.replace("\n", "\r\n").encode(), "utf-16-le-bom": b"\xff\xfe" + text.encode("utf-16-le")}
    (tmp_path / "list.txt").write_bytes(data.get(encoding) or text.encode(encoding))
    assert paired(tmp_path / "list.txt") == ["\u00e9", "b"]


def test_listed_photos_of_one_name_have_results_in_their_folders(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a/1.png", "b/1.png", "b/c/1.png", "2.png")
    (tmp_path / "in" / "list.txt").write_text("a/1.png\nb/1.png\nb/c/1.png\n2.png\n")
    assert paired(tmp_path / "in" / "list.txt") == ["a/1", "b/1", "b/c/1", "2"]
    (tmp_path / "elsewhere.txt").write_text(f"{tmp_path}/in/a/1.png\n{tmp_path}/in/b/1.png\n")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("../in/a/1.png\n../in/b/1.png\n")
    assert paired(tmp_path / "lists" / "l.txt") == ["a/1", "b/1"]
    assert paired(tmp_path / "elsewhere.txt") == ["in/a/1", "in/b/1"]


def test_photos_of_one_name_but_for_the_extension(tmp_path: Path) -> None:
    folder_of(tmp_path / "p", "a.png", "a.jpg", "b.png")
    folder_of(tmp_path / "m", "a.png", "a.gif")
    assert paired(tmp_path / "p") == ["a.jpg", "a.png", "b"]
    assert sorted(paired(tmp_path / "p" / "a.png", tmp_path / "m")) == ["a.gif", "a.png"]


@pytest.mark.parametrize(("photo", "mask"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_accents_written_in_either_way_are_one_name(tmp_path: Path, photo: str, mask: str) -> None:
    names = [unicodedata.normalize(form, "\u00fcb\u00e9r") for form in (photo, mask)]
    folder_of(tmp_path / "p", f"{names[0]}.png")
    folder_of(tmp_path / "m", f"{names[1]}_mask.png")
    (pair,), lonely = pairs(tmp_path / "p", tmp_path / "m", NOWHERE)
    assert (pair.mask, lonely) == (tmp_path / "m" / f"{names[1]}_mask.png", [])
    (tmp_path / "list.txt").write_text(f"p/{names[1]}.png\n")
    assert pairs(tmp_path / "list.txt", None, NOWHERE)[0][0].photo.exists()


def test_pictures_by_other_names_are_done_or_left_out_with_a_word(tmp_path: Path) -> None:
    pictures = ["a.jpe", "b.MPO", "c.gif", "d", "e.jif", "f.HIF", "sub.folder/g"]
    folder_of(tmp_path, *pictures, "h.bak", "i.psd")
    for name in ("notes.txt", "README", "Makefile"):
        (tmp_path / name).write_text("no picture")
    left_out: list[str] = []
    found = list_pictures(tmp_path, left_out)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == sorted(pictures)
    assert sorted(line.partition(":")[0] for line in left_out) == [f"{tmp_path}/h.bak", f"{tmp_path}/i.psd"]


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", "x.png", "deep/y.png")
    inside = folder_of(tmp_path / "p", "a.png")
    (inside / "link").symlink_to(tmp_path / "elsewhere")
    (inside / "link again").symlink_to(tmp_path / "elsewhere")
    (inside / "up").symlink_to(inside)
    (inside / "self").symlink_to("self")
    (inside / "self.png").symlink_to("self.png")
    found = [p.relative_to(inside).as_posix() for p in list_pictures(inside)]
    assert found == ["a.png", "link/deep/y.png", "link/x.png", "self.png"]


def test_a_link_to_itself_is_listed_as_bad(run: Run, tmp_path: Path, mask: Path, capsys: pytest.CaptureFixture) -> None:
    whole = folder_of(tmp_path / "p", "a.png", "z.png")
    (whole / "m.png").symlink_to("m.png")
    assert run(whole, mask, "-o", tmp_path / "out") == 1
    assert done(tmp_path / "out") == {"a", "z"}
    assert "m.png" in capsys.readouterr().err


NAMES = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=60).filter(lambda n: not {0, 47} & set(n) and n not in (b".", b"..")),
        st.sampled_from([b"", b".png", b".PNG", b".jpe", b".txt", b".png.part", b"_mask.png"]),
    ),
    min_size=1,
    max_size=6,
)


def fuzz(count: int) -> None:
    """Pair folders with so many names of any bytes: every photo once, every result with a name of its own."""

    @settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @given(NAMES, st.booleans())
    def pairing(names: list[tuple[bytes, bytes]], one_folder: bool) -> None:
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for first, last in names:
                Path(place, os.fsdecode(first + last)).write_bytes(DATA)
            try:
                found, lonely = pairs(Path(place), Path(place) if one_folder else None, NOWHERE)
            except ImageError:
                return
            assert len({pair.name for pair in found}) == len(found)
            for text in (*lonely, *(str(pair.photo) for pair in found)):
                assert "\n" not in printable(text).encode("utf-8", "backslashreplace").decode()
            json.dumps([pair.name for pair in found])

    pairing()


def test_folders_with_names_of_any_bytes() -> None:
    fuzz(150)


@pytest.mark.slow
def test_ten_thousand_folders_with_names_of_any_bytes() -> None:
    fuzz(10_000)


def test_an_output_that_nobody_reads_ends_the_run(tmp_path: Path) -> None:
    """As `manifill inpaint PHOTOS ... | head -1` does: the rest is not counted as failed."""
    work, tally = batch.Batch(lambda pair: pytest.fail("not here"), Output(tmp_path), 1), batch.Tally()
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), work.reported(Pair(tmp_path / "photo.png", None, "photo"), tally):
        os.write(writing, b"out/photo_000.png\n")
    os.close(writing)
    assert tally.failures == []
