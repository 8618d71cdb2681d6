"""A time limit in place of a number of steps: how many steps of each stage fit into it."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from manifill.data.batches import Batches
from manifill.train.distributed import Processes
from manifill.train.loop import Stage, run

SHARES = {"vqvae": 0.2, "structure": 0.35, "texture": 0.45}  # of the time, where all are trained
VALIDATIONS = 4  # in a stage; each also writes a preview
TRIED = 8  # steps that are timed, the first half of them to warm up


class Budget:
    """The time of a run, in seconds from now, divided among the stages that are still to come."""

    def __init__(self, minutes: float) -> None:
        self.ends = time.monotonic() + 60 * minutes

    def seconds(self, name: str, following: Sequence[str]) -> float:
        """Return the time for stage `name`, when the stages `following` come after it."""
        left = max(0.0, self.ends - time.monotonic())
        return left * SHARES[name] / (SHARES[name] + sum(SHARES[other] for other in following))


def fitting(stage: Stage, batches: Batches, seed: int, seconds: float, processes: Processes) -> int:
    """Return how many steps of `stage` fit into `seconds` with VALIDATIONS validations, at least one.

    It takes steps to find out: train another instance afterwards. All processes get the first one's answer.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(None):
        run(stage, batches, Path(scratch), TRIED, seed, TRIED // 2, TRIED, TRIED, quiet=True, processes=processes)
        spent = time.monotonic() - began
        steps = allowed(Path(scratch) / stage.name / "metrics.jsonl", batches.batch_size, spent, seconds - spent)
    told = torch.tensor([float(steps)], device=processes.device)
    return max(1, int(processes.gathered(told)[0]))


def allowed(log: Path, batch_size: int, spent: float, seconds: float) -> int:
    """Return the steps that `seconds` allow by the speed in the log of a trial that took `spent` seconds."""
    if not log.exists():  # not the first process, which alone writes and is asked
        return 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    step = batch_size / [line["pictures_per_s"] for line in lines if "pictures_per_s" in line][-1]
    validation = max(0.0, spent - TRIED * step)
    return int((seconds - VALIDATIONS * validation) / step)
