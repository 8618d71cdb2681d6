"""What the README and the pages of docs/ show runs, and what they point to is there."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import struct
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from manifill import cli
from manifill.inpainter import bundled, find_model
from manifill.sampling import native

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DIARY = "measurements.md"  # commands as they were when something was measured
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
SHOWN = "\n".join([README, *(text for name, text in PAGES.items() if name != DIARY)])


def commands(text: str) -> list[tuple[str, str]]:
    """Verb and rest of every command, continued lines joined and comments left out."""
    found = re.findall(r"^(?:    )?manifill (\w+) ?(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [(verb, rest.split(" #")[0].strip()) for verb, rest in found]


def test_the_readme_is_short() -> None:
    assert len(README.split()) < 900


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    results = [Image.open(tmp_path / f"completion_{seed}.png") for seed in range(8)]
    assert {picture.size for picture in results} == {(128, 128)}
    assert len({picture.tobytes() for picture in results}) == 8


def test_inpaint_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the README's, to the letter, on real files; two completions of four samples are enough."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for name, file in (("PHOTO", "astronaut.png"), ("MASK", "centre.png")):
        shutil.copyfile(ROOT / "examples" / file, name)
        Path(f"{name}S").mkdir()
        shutil.copyfile(ROOT / "examples" / file, f"{name}S/astronaut.png")
    lines = [rest for verb, rest in commands(README) if verb == "inpaint"]
    assert len(lines) == 4
    for line in lines:
        rest = line.replace("--of 32", "--of 4").replace("-n 8", "-n 2").replace("-n 4", "-n 2")
        monkeypatch.setattr(sys, "argv", ["manifill", "inpaint", *shlex.split(rest), "--device", "cpu"])
        assert not cli.main(), line
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*_00*.png")}
    assert {"out/first/astronaut_000.png", "OUT/PHOTO_001.png", "LIKELY/PHOTO_001.png", "OUT/astronaut_007.png"} <= made


def test_verbs_and_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    shown = commands(SHOWN)
    assert {verb for verb, _ in shown} == {
        *(
            "inpaint",
            "info",
            "train",
            "data",
            "convert",
            "masks",
            "evaluate",
            "serve",
            "push",
            "pack",
            "ablate",
            "figures",
        ),
    }
    for verb, rest in shown:
        stage = rest.split()[:1] if verb == "train" else []
        monkeypatch.setattr(sys, "argv", ["manifill", verb, *stage, "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        described = capsys.readouterr().out
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            assert option in described, f"{verb} has no {option}"


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^    make (\w+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in [*targets, *re.findall(r"`make (\w+)`", README)]:
        assert f"\n{target}:" in makefile


def test_extras() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"pip install '(?:\.|manifill)\[(\w+)\]'", SHOWN)
    assert "serve" in extras
    for extra in extras:
        assert f"\n{extra} = [" in project


@pytest.mark.parametrize("name", bundled())
def test_the_table_of_models_says_what_the_models_hold(name: str) -> None:
    with (find_model(name) / "structure.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    own = json.loads(header["__metadata__"]["config"])
    (row,) = re.findall(rf"^\| `{name}` \| [^|]*[a-z][^|]* \| ([\d.]+, [\d.]+) \|", README, re.MULTILINE)
    assert row == f"{own['temperature']}, {own['top_p']}"


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_nothing_relative_is_left_for_an_index_of_packages() -> None:
    described = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["described"]
    addresses = re.compile(r"(!?)\[[^]]*\]\(([^)\s]+)\)")
    home = "https://example.org/manifill"
    assert all(target.startswith("https://") for _, target in addresses.findall(described(README, "")))
    led = addresses.findall(described(README, home))
    assert len(led) == len(addresses.findall(README))
    assert all(target.startswith("https://") for _, target in led)
    assert ("!", f"{home}/raw/HEAD/docs/astronaut.png") in led


def test_the_command_that_tries_a_wheel_runs(capsys: pytest.CaptureFixture) -> None:
    wheels = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    python, _, code = shlex.split(wheels["test-command"])
    assert python == "python"
    if native.kinds():
        exec(code, {})
        assert " for float32, " in capsys.readouterr().out


def test_every_page_is_in_the_site() -> None:
    assert set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)) == set(PAGES)


def test_every_file_of_the_tree_is_there() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    (tree,) = re.findall(r"```\nsrc/manifill/\n(.*?)tests/", contributing, re.DOTALL)
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    source = ROOT / "src" / "manifill"
    there = {p.name for p in source.iterdir() if not p.name.startswith("__") and p.suffix not in (".so", ".dll")}
    assert named == there
