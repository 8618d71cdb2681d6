"""A time limit in place of a number of steps: how many steps of each stage fit into it, told anew as it runs."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from manifill.data.batches import Batches
from manifill.train.config import RunOptions
from manifill.train.distributed import Processes
from manifill.train.length import in_minutes
from manifill.train.loop import Stage, run

SHARES = {"vqvae": 0.2, "structure": 0.35, "texture": 0.45}  # of the time, where all are trained
VALIDATIONS = 4  # in a stage; each also writes a preview
TRIED = 8  # steps that are timed, the first half of them to warm up
LEAST = 200  # steps of a stage below which nothing comes of it; presets that take fewer are for trying out
SPARE = 1.4  # times the minutes that the fewest steps would take: the stages before take their part of more, too
NEARLY = 0.1  # of the planned steps: what changes less is left as it was planned


def seconds_for(name: str, following: Sequence[str], ends: float) -> float:
    """Return stage `name`'s part of the time until `ends` on the monotonic clock, with `following` stages to come."""
    left = max(0.0, ends - time.monotonic())
    return left * SHARES[name] / (SHARES[name] + sum(SHARES[other] for other in following))


@dataclass
class StepPlan:
    """How many steps a stage takes, by the pace at which it runs, validations included: `run` asks for it.

    The stage has until `ends` on the monotonic clock. `settle` keeps a new number where the run remembers it; where
    less than `least` would be reached, the stage stops. All processes get the first one's answer.
    """

    ends: float
    least: int
    processes: Processes
    settle: Callable[[int], None]
    began: tuple[float, int] | None = field(default=None, init=False)  # when pace was first taken, and steps until then

    def __call__(self, done: int, steps: int) -> int:
        """Return the steps to take in all, where `done` are taken of `steps`."""
        now = time.monotonic()
        if self.began is None:
            self.began = now, done
            return steps
        seconds, taken = now - self.began[0], done - self.began[1]
        fits = done + max(0, int((self.ends - now) * taken / max(seconds, 1e-9)))
        fits = self.processes.first_says(fits)
        if fits < self.least:
            fits = done
        elif abs(fits - steps) <= NEARLY * steps and fits > done:
            return steps
        if fits != steps:
            self.settle(fits)
        return fits


def say_too_short(name: str, steps: int, least: int, minutes: float) -> str:
    """Return in words that a stage has too few steps to become anything, and what would do."""
    enough = math.ceil(SPARE * minutes * least / steps) if steps else None
    advice = f"the same command with --minutes {enough} goes on" if enough else "give it much more time"
    return (
        f"{name}: about {steps} steps fit into its part of {in_minutes(minutes)}, and fewer than {least} become "
        f"nothing; {advice}; the smallest preset of any use is small-128"
    )


def steps_that_fit(stage: Stage, batches: Batches, seed: int, seconds: float, processes: Processes) -> int:
    """Return how many steps of `stage` fit into `seconds` with VALIDATIONS validations.

    It takes steps to find out: train another instance afterwards. All processes get the first one's answer.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(None):
        trial = RunOptions(seed=seed, log_every=TRIED // 2, validate_every=TRIED, checkpoint_every=TRIED, quiet=True)
        run(stage, batches, Path(scratch), TRIED, trial, processes)
        spent = time.monotonic() - began
        steps = steps_allowed(Path(scratch) / stage.name / "metrics.jsonl", batches.batch_size, spent, seconds - spent)
    return max(0, processes.first_says(steps))


def steps_allowed(log: Path, batch_size: int, spent: float, seconds: float) -> int:
    """Return the steps that `seconds` allow by the speed in the log of a trial that took `spent` seconds."""
    if not log.exists():  # not the first process, which alone writes and is asked
        return 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    step = batch_size / [line["pictures_per_s"] for line in lines if "pictures_per_s" in line][-1]
    validation = max(0.0, spent - TRIED * step)
    return int((seconds - VALIDATIONS * validation) / step)
