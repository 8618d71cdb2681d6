"""A training that is given a time: planned, planned again as it runs, refused, prolonged, and what it says of that."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from manifill import cli
from manifill.cli.train import expectation, suited, what_now
from manifill.train import budget, run
from manifill.train.budget import StepPlan
from manifill.train.config import RunOptions
from manifill.train.diagnosis import diagnose
from manifill.train.distributed import ALONE
from manifill.train.logs import Log
from manifill.train.run import train

STAGES = ("vqvae", "structure", "texture")


def test_a_plan_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned for 1 s a step; another program takes half of the machine, and later all of it."""
    now, settled = [0.0], []
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    plan = StepPlan(1000.0, 200, ALONE, settled.append)
    assert plan(10, 1000) == 1000  # from here on the pace is known
    now[0] = 50.0
    assert plan(60, 1000) == 1000  # as planned, nearly
    now[0] = 200.0
    assert plan(110, 1000) == 510  # 2 s a step
    assert settled == [510]
    now[0] = 900.0
    assert plan(120, 510) == 120  # so slow that nothing will come of it: it stops
    assert settled == [510, 120]


def test_a_stage_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    plan = StepPlan(100.0, 10, ALONE, lambda steps: None)
    plan(10, 100)
    now[0] = 101.0
    assert plan(60, 100) == 60


def steps_of(out: Path, name: str) -> tuple[int, int]:
    """The steps that a stage remembers and those it has taken."""
    lines = (out / name / "metrics.jsonl").read_text().splitlines()
    planned = json.loads((out / name / "config.json").read_text())["training"]["steps"]
    return planned, max(json.loads(line)["step"] for line in lines)


def test_more_minutes_go_on_and_the_codes_stay(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fits, two = iter([12, 11, 7]), STAGES[:2]
    monkeypatch.setattr(run, "steps_that_fit", lambda *_: next(fits))
    monkeypatch.setattr(run, "StepPlan", lambda *_: None)  # the clock has no say
    out, options = tmp_path / "run", {"quiet": True, "force": True}
    train(two, [pictures], out, "tiny", RunOptions(minutes=1, **options))
    assert [steps_of(out, name) for name in two] == [(12, 12), (11, 11)]
    assert capsys.readouterr().out.count("forced: ") == 1  # not again for the trial
    vqvae = (out / "model" / "vqvae.safetensors").read_bytes()
    train(two, [pictures], out, "tiny", RunOptions(minutes=1, **options))  # the same again is finished
    train(two, [pictures], out, "tiny", RunOptions(minutes=2, **options))
    assert [steps_of(out, name) for name in two] == [(12, 12), (18, 18)]
    assert (out / "model" / "vqvae.safetensors").read_bytes() == vqvae
    assert "stays as it is, because the other stages are trained on its codes" in capsys.readouterr().out


@pytest.mark.slow
def test_minutes_are_kept_by_a_real_clock(pictures: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    train(STAGES, [pictures], tmp_path, "tiny", RunOptions(quiet=True, force=True, minutes=1))
    assert 40 < time.monotonic() - began < 90
    assert all(planned == taken > 10 for planned, taken in (steps_of(tmp_path, name) for name in STAGES))


def test_what_cannot_become_anything_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(run, "steps_that_fit", lambda *_: 3)
    words = [
        "train",
        "all",
        "--data",
        str(pictures),
        "--out",
        str(tmp_path / "run"),
        "--preset",
        "small-128",
        "--quiet",
    ]
    assert cli.main([*words, "--minutes", "5"]) == 2
    shown = capsys.readouterr()
    assert "24 pictures for 5 minutes give a sketch" in shown.out
    assert "vqvae: about 3 steps fit into its part of 5 minutes, and fewer than 200 become nothing" in shown.err
    assert "the same command with --minutes 467 goes on" in shown.err
    assert not (tmp_path / "run").exists()


def test_only_the_time_that_was_used_is_taken_off(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that is refused has used nothing of the time: with more minutes it gets more than before."""
    fits, given = iter([12, 3, 3, 3]), []
    monkeypatch.setattr(run, "steps_that_fit", lambda *a: (given.append((a[0].name, a[2])), next(fits))[1])
    monkeypatch.setattr(run, "StepPlan", lambda *_: None)
    options = {"quiet": True, "force": True, "log_every": 2}
    for minutes in (10, 12):
        with pytest.raises(ValueError, match="structure: about 3 steps fit into its part"):
            train(STAGES[:2], [pictures], tmp_path, "tiny", RunOptions(minutes=minutes, **options))
    seconds = [time for name, time in given if name == "structure"]
    assert 240 < seconds[0] < seconds[1] < 720


def test_a_stage_that_a_slow_machine_stops_is_an_error_and_can_go_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "steps_that_fit", lambda *_: 12)
    out, options = tmp_path / "run", {"quiet": True, "force": True, "log_every": 2}
    with monkeypatch.context() as slow:
        slow.setattr(run, "StepPlan", lambda _, least, *rest: StepPlan(time.monotonic() - 1, least, *rest))
        with pytest.raises(ValueError, match=r"vqvae: about \d steps fit into its part of 1 minute, and fewer than 10"):
            train(["vqvae"], [pictures], out, "tiny", RunOptions(minutes=1, **options))
    planned, taken = steps_of(out, "vqvae")
    assert planned == taken < 10
    with pytest.raises(ValueError, match="the same command with --minutes"):  # the same again is as short
        train(["vqvae"], [pictures], out, "tiny", RunOptions(minutes=1, **options))
    monkeypatch.setattr(run, "StepPlan", lambda *_: None)
    train(["vqvae"], [pictures], out, "tiny", RunOptions(minutes=2, **options))
    assert steps_of(out, "vqvae") == (taken + 12, taken + 12)


def test_the_diagnosis_names_the_cause_first() -> None:
    settings = {"training": {"steps": 1}, "usual_steps": 1500, "minutes": 5}
    found = diagnose("structure", Log([{"step": 1, "val_bits_hole": 9.0}], settings, {}))
    assert list(found.problems) == ["too short"]
    assert found.problems["too short"].startswith(
        "It stopped after 1 of about 1,500 steps. Give it 7500 minutes: the same"
    )
    assert all(line.endswith("too short") for line in found.unchecked)
    assert Log([{"step": 1200}], settings | {"training": {"steps": 1200}}, {}).minutes_needed == 0  # long enough
    assert Log([{"step": 10}], settings | {"training": {"steps": 800}}, {}).minutes_needed == 0  # still running
    middling = diagnose(
        "structure", Log([{"step": 500, "val_bits_hole": 9.0}], settings | {"training": {"steps": 500}}, {})
    )
    assert list(middling.problems) == ["too short", "prior learnt nothing"]
    assert Log([{"step": 1}], settings | {"minutes": None}, {}).minutes_needed == 0  # told so by its steps


def test_the_last_line_says_what_to_try(tmp_path: Path) -> None:
    words = ["train", "all", "--data", "my", "pictures", "--out", "run", "--minutes", "5", "--preset", "small-128"]
    (tmp_path / "structure").mkdir()
    model = {"image_size": 128, "vqvae": {}, "structure": {}, "texture": {}, "discriminator": {}}
    settings = {"training": {"steps": 100}, "model": model, "usual_steps": 1500, "minutes": 5}
    (tmp_path / "structure" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "structure" / "metrics.jsonl").write_text('{"step": 100, "bits": 8.0}\n')
    assert what_now(tmp_path, words).startswith(
        "try now: manifill train all --data my pictures --out run --preset small"
    )
    assert what_now(tmp_path, words).endswith(" --minutes 75")
    (tmp_path / "structure" / "config.json").unlink()
    assert what_now(tmp_path, words) == "try now: manifill train vqvae with the same options"
    (tmp_path / "model").mkdir()
    for name in STAGES:
        (tmp_path / "model" / f"{name}.safetensors").touch()
    assert what_now(tmp_path, words) == f"try now: manifill inpaint PHOTO MASK -o OUT --model {tmp_path}/model"


def test_without_a_preset_nothing_of_a_million_steps_begins(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(["train", "all", "--data", str(pictures), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "paper-256 takes 1,000,000 steps of each stage" in said
    assert f"24 pictures suit manifill train all --data {pictures} --out OUT --preset small-128 --minutes 30" in said
    assert "faces-128" in suited([str(pictures)] * 200)
    assert "; shards suit manifill train all --data 'https" in suited(["https://example.org/{000..009}.tar"])
    assert expectation([str(pictures)] * 200, 600) == ""
    assert not (tmp_path / "run").exists()
