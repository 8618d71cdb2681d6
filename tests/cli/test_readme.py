"""What the README shows runs."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from manifill import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    results = [Image.open(tmp_path / f"completion_{seed}.png") for seed in range(8)]
    assert {picture.size for picture in results} == {(128, 128)}
    assert len({picture.tobytes() for picture in results}) == 8


def test_verbs_and_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    shown = re.findall(r"^    manifill (\w+) ?(.*)$", README, re.MULTILINE)
    assert {verb for verb, _ in shown} == {
        *("inpaint", "info", "train", "data", "convert", "masks", "evaluate", "serve", "push"),
    }
    for verb, rest in shown:
        stage = rest.split()[:1] if verb == "train" else []
        monkeypatch.setattr(sys, "argv", ["manifill", verb, *stage, "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        described = capsys.readouterr().out
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest.split("#")[0]):
            assert option in described, f"{verb} has no {option}"


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_every_file_of_the_tree_is_there() -> None:
    (tree,) = re.findall(r"```\nsrc/manifill/\n(.*?)tests/", README, re.DOTALL)
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    source = ROOT / "src" / "manifill"
    there = {p.name for p in source.iterdir() if not p.name.startswith("__") and p.suffix not in (".so", ".dll")}
    assert named == there
