"""A new option touches two files: where it is declared, and where it is obeyed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manifill.config import ModelConfig, to_dict
from manifill.train.logs import read_settings

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
        '\n    RETIRED: ClassVar[dict[str, Any]] = {"lecam_weight"',
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


def run(changed: Path, *words: object, code: int = 0) -> str:
    env = os.environ | {"PYTHONPATH": str(changed)}
    done = subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_one_declaration_reaches_every_place(
    changed: Path, reference_model: Path, photo_and_mask: tuple[Path, Path], tmp_path: Path
) -> None:
    command = ("-m", "manifill", "inpaint", *photo_and_mask, "-n", "1", "--seed", "0", "--device", "cpu")
    run(changed, *command, "--model", reference_model, "--push", "50", "-o", tmp_path / "out")
    (line,) = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    assert line["push"] == 50
    codes = [code for rows in line["codes"][0][2:6] for code in rows[2:6]]
    assert set(codes) == {0}  # it is obeyed, though the C++ does not know it

    run(changed, "-m", "manifill", "pack", reference_model, "--out", tmp_path / "packed", "--push", "50")
    run(changed, *command, "--model", tmp_path / "packed", "-o", tmp_path / "own")  # the model's own
    assert json.loads((tmp_path / "own" / "manifest.jsonl").read_text())["codes"] == line["codes"]
    assert "push 50" in run(changed, "-m", "manifill", "info", tmp_path / "packed")
    assert "--push" in run(changed, "-m", "manifill", "evaluate", "--help")

    schema = "from manifill.web.schemas import Settings; import json; print(json.dumps(Settings.model_json_schema()))"
    number, _ = json.loads(run(changed, "-c", schema))["properties"]["push"]["anyOf"]
    assert (number["minimum"], number["maximum"]) == (0, 50)


def test_an_option_of_a_training_is_offered_checked_remembered_and_told(
    changed: Path, pictures: Path, reference_model: Path, tmp_path: Path
) -> None:
    first = ("-m", "manifill", "train", "texture", "--data", pictures, "--preset", "tiny", "--quiet", "--force")
    first += ("--precision", "fp32", "--out", tmp_path / "out", "--masks", "centre", "brush")
    assert "--dummy" in run(changed, "-m", "manifill", "train", "all", "--help")
    assert "--dummy" not in run(changed, "-m", "manifill", "train", "vqvae", "--help")
    too_much = run(changed, *first, "--dummy", "3", code=2)
    assert too_much == "manifill: dummy is 3.0; expected 0 or more, at most 2\n"

    vqvae = ("-m", "manifill", "train", "vqvae", *first[4:-3], "--steps", "1")
    run(changed, *vqvae)
    run(changed, *first, "--steps", "1", "--dummy", "1.5")
    saved = json.loads((tmp_path / "out" / "texture" / "config.json").read_text())
    assert (saved["training"]["dummy"], saved["training"]["masks"]) == (1.5, ["centre", "brush"])
    assert "--masks centre brush --dummy 1.5" in (tmp_path / "out" / "model" / "README.md").read_text()
    assert "dummy: 1.5 then, 0.0 now" in run(changed, *first, "--steps", "2", code=2)


def test_settings_of_earlier_versions_have_todays_names(tmp_path: Path) -> None:
    training = {"drawn": 0.5, "adversarial_share": 1.5, "perturb": 0.1}
    (tmp_path / "config.json").write_text(json.dumps({"training": training, "model": to_dict(ModelConfig())}))
    assert read_settings(tmp_path)["training"] == {"sampled_codes": 0.5, "adversarial_ratio": 1.5, "perturb": 0.1}


def test_the_keywords_are_the_declared_options() -> None:
    from dataclasses import fields

    from manifill.config import Sampling, SamplingOptions

    assert [f.name for f in fields(SamplingOptions)] == list(Sampling.__annotations__)
