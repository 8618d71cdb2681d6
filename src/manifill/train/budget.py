"""A time limit in place of a number of steps: how many steps of each stage fit into it, told anew as it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manifill.data.batches import Batches
from manifill.train.config import RunOptions
from manifill.train.distributed import Processes
from manifill.train.logs import in_minutes
from manifill.train.loop import Stage, own_share

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
        if fits != steps and self.processes.first:
            self.settle(fits)
        return fits


def say_too_short(name: str, steps: int, least: int, options: RunOptions) -> ValueError:
    """Return the error of a stage that has too few steps to become anything; it says what would do."""
    assert options.minutes is not None
    enough = math.ceil(SPARE * options.minutes * least / steps) if steps else None
    advice = f"the same command with --minutes {enough} goes on" if enough else "give it much more time"
    return ValueError(
        f"{name}: about {steps} steps fit into its part of {in_minutes(options.minutes)}, and fewer than {least} "
        f"become nothing; {advice}; the smallest preset of any use is small-128"
    )


def steps_that_fit(stage: Stage, batches: Batches, seconds: float, processes: Processes) -> int:
    """Return how many steps of `stage` fit into `seconds` with VALIDATIONS validations.

    It takes steps to find out: train another instance afterwards. All processes get the first one's answer.
    """
    times = [time.monotonic()]
    for step in range(TRIED):
        processes.means([stage.step(own_share(batches, stage.masks, processes.device, step))])  # waits for a GPU
        times.append(time.monotonic())
    each, validation = (times[-1] - times[TRIED // 2]) / (TRIED - TRIED // 2), 0.0
    if processes.first:
        stage.validate()
        stage.preview()
        validation = time.monotonic() - times[-1]
    left = seconds - (times[-1] - times[0]) - (VALIDATIONS + 1) * validation
    processes.finish()
    return max(0, processes.first_says(int(left / each)))
