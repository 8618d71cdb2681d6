"""Names of bytes that are no text: what is called so is trained on, or named, like anything else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from manifill.data.pictures import Pictures
from manifill.data.sources import DataError, sources
from manifill.data.unreadable import unreadable_in
from manifill.train.config import RunOptions
from manifill.train.run import train

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture
def odd(pictures: Path, tmp_path: Path) -> Path:
    """A folder with such a name, of pictures with such names; one is broken."""
    folder = tmp_path / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes names of text alone")
    for k, file in enumerate(sorted(pictures.iterdir())):
        shutil.copy(file, folder / f"{ODD}{k:02d}.png")
    (folder / f"{ODD}03.png").write_bytes(b"no picture")
    return folder


def test_a_run_on_names_that_are_no_text(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(("vqvae",), [odd], out, "tiny", RunOptions(quiet=True, force=True, steps=1))
    assert unreadable_in(out) == [str(odd / f"{ODD}03.png")]
    card = (out / "model" / "README.md").read_text()
    assert r"--data 'caf\udce9'" in card
    assert "of these, 1 could not be read" in card


def test_lists_may_name_what_is_no_text(odd: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n".join(os.fsencode(file) for file in sorted(odd.iterdir())))
    assert Pictures([path], 32, quiet=True).digest == Pictures([odd], 32, quiet=True).digest
    path.write_bytes(b"\xff\xfe\x00no list\n")
    with pytest.raises(DataError, match=r"list\.txt, line 1: no such file"):
        sources([path])
