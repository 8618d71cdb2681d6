"""A new option touches two files: where it is declared, and where it is obeyed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Done, in_one_process

ROOT = Path(__file__).parent.parent
EDITS = {  # file -> (where, what is put before it)
    "config.py": (
        "\n    def __post_init__(self) -> None:\n        check_options(self)\n\n\nclass Sampling(",
        '    push: float = option(0.0, "Add so much to the logit of the first code.", least=0, most=50)\n',
    ),
    "sampling/naive.py": (
        "    if 0 < options.top_k",
        "    scaled = torch.cat([scaled[:, :1] + options.push, scaled[:, 1:]], dim=1)\n",
    ),
    "train/config.py": (
        "\n\n@dataclass(frozen=True)\nclass Preset:",
        '    dummy: float = option(0.0, "Does nothing.", least=0, most=2)\n',
    ),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with a dummy option."""
    source = tmp_path_factory.mktemp("changed") / "manifill"
    shutil.copytree(ROOT / "src" / "manifill", source, ignore=shutil.ignore_patterns("pretrained", "__pycache__"))
    for name, (place, text) in EDITS.items():
        before = (source / name).read_text()
        assert before.count(place) == 1, name
        (source / name).write_text(before.replace(place, text + place))
    return source.parent


def run(changed: Path, *verbs: tuple[object, ...]) -> list[Done]:
    return in_one_process(*verbs, PYTHONPATH=str(changed))


def test_one_declaration_reaches_every_place(
    changed: Path, reference_model: Path, photo_and_mask: tuple[Path, Path], tmp_path: Path
) -> None:
    command, packed = ("inpaint", *photo_and_mask, "-n", "1", "--seed", "0", "--device", "cpu"), tmp_path / "packed"
    done = run(
        changed,
        (*command, "--model", reference_model, "--push", "50", "-o", tmp_path / "out"),
        ("pack", reference_model, "--out", packed, "--push", "50"),
        (*command, "--model", packed, "-o", tmp_path / "own"),  # the model's own
        ("info", packed),
        ("evaluate", "--help"),
    )
    assert [verb.code for verb in done] == [0] * 5, done
    (line,) = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    assert line["push"] == 50
    codes = [code for rows in line["codes"][0][2:6] for code in rows[2:6]]
    assert set(codes) == {0}  # it is obeyed, though the C++ does not know it
    assert json.loads((tmp_path / "own" / "manifest.jsonl").read_text())["codes"] == line["codes"]
    assert "push 50" in done[3].out
    assert "--push" in done[4].out

    schema = "from manifill.web.schemas import Settings; import json; print(json.dumps(Settings.model_json_schema()))"
    env = os.environ | {"PYTHONPATH": str(changed)}
    said = subprocess.run([sys.executable, "-c", schema], env=env, capture_output=True, text=True, check=True).stdout
    number, _ = json.loads(said)["properties"]["push"]["anyOf"]
    assert (number["minimum"], number["maximum"]) == (0, 50)


def test_an_option_of_a_training_is_offered_checked_remembered_and_told(
    changed: Path, pictures: Path, tmp_path: Path
) -> None:
    options = ("--data", pictures, "--preset", "tiny", "--quiet", "--force", "--precision", "fp32")
    options += ("--out", tmp_path / "out")
    texture = ("train", "texture", *options, "--masks", "centre", "brush")
    all_help, vqvae_help, too_much, vqvae, first, again = run(
        changed,
        ("train", "all", "--help"),
        ("train", "vqvae", "--help"),
        (*texture, "--dummy", "3"),
        ("train", "vqvae", *options, "--steps", "1"),
        (*texture, "--steps", "1", "--dummy", "1.5"),
        (*texture, "--steps", "2"),
    )
    assert "--dummy" in all_help.out
    assert "--dummy" not in vqvae_help.out
    assert too_much == Done(2, "", "manifill: dummy is 3.0; expected 0 or more, at most 2\n")
    assert (vqvae.code, first.code) == (0, 0), vqvae.err + first.err
    saved = json.loads((tmp_path / "out" / "texture" / "config.json").read_text())
    assert (saved["training"]["dummy"], saved["training"]["masks"]) == (1.5, ["centre", "brush"])
    assert "--masks centre brush --dummy 1.5" in (tmp_path / "out" / "model" / "README.md").read_text()
    assert again.code == 2
    assert "dummy: 1.5 then, 0.0 now" in again.err


def test_the_keywords_are_the_declared_options() -> None:
    from dataclasses import fields

    from manifill.config import Sampling, SamplingOptions

    assert [f.name for f in fields(SamplingOptions)] == list(Sampling.__annotations__)
