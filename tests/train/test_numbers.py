"""Numbers of a training out of their range: one sentence and exit code 2 before anything is read or made."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from manifill import cli
from manifill.config import to_dict
from manifill.train import settings
from manifill.train.config import TRAININGS, Preset, RunOptions
from manifill.train.settings import precision

KINDS = (RunOptions, *TRAININGS.values())
COUNTS = {"steps", "batch_size", "limit", "accumulate", "log_every", "validate_every", "checkpoint_every"}
RATES = {"learning_rate", "discriminator_rate", "minutes"}
FRACTIONS = {"averaging", "decay", "structure_only", "perturb", "sampled_codes", "geometry"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_has_a_range(kind: type) -> None:
    hints = get_type_hints(kind)
    numbers = {name for name, hint in hints.items() if {int, float} & {hint, *get_args(hint)}} - {"seed"}
    assert len(numbers) > 5
    for name in numbers:
        above = (0,) if name in COUNTS | RATES else (1.1,) if name in FRACTIONS else ()
        for value in (-1, math.nan, *above):
            with pytest.raises(ValueError, match=f"^{name} is {value}; expected "):
                kind(**{name: value})


@pytest.mark.parametrize(
    "words",
    [
        "--steps 0",
        "--batch-size 0",
        "--learning-rate -1",
        "--minutes nan",
        "--sampled-codes 1.5",
        "--accumulate 0",
        "--adversarial-ratio -1",
        "--log-every 0",
        "--workers -1",
    ],
)
def test_a_number_out_of_its_range(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, words: str
) -> None:
    option, value = words.split()
    command = ["manifill", "train", "all", "--data", str(tmp_path), "--out", str(tmp_path / "run"), option, value]
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main() == 2
    error = capsys.readouterr().err
    assert error.startswith(f"manifill: {option[2:].replace('-', '_')} is {value}") or f" is {float(value)}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_precision_is_the_faster_one_unless_told_or_started_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    def found(out: Path, given: str = "auto") -> str:
        return precision(out, "structure", RunOptions(precision=given), torch.device("cpu"))

    for fast, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(settings, "fast_bfloat16", lambda device, fast=fast: fast)
        assert found(tmp_path) == wanted
        assert found(tmp_path, "fp16") == "fp16"
    started = tmp_path / "structure" / "config.json"
    started.parent.mkdir()
    started.write_text(json.dumps({"precision": "bf16", "training": {}, "model": to_dict(Preset().model)}))
    assert capsys.readouterr().out == ""
    assert found(tmp_path) == "bf16"
    assert capsys.readouterr().out == "structure: goes on in bf16, as it was started; this machine is faster in fp32\n"
