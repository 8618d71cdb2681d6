"""The training loop: one stage, resumable to the same weights, with metrics, previews and atomic checkpoints."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from manifill.checkpoint import write_atomic
from manifill.train.data import Batches

Metrics = dict[str, Any]


class Stage(Protocol):
    """What the loop asks of a stage."""

    name: str

    @property
    def state(self) -> Mapping[str, nn.Module | torch.optim.Optimizer]:
        """What a checkpoint holds."""
        ...

    @property
    def rates(self) -> Sequence[tuple[torch.optim.Optimizer, Callable[[int], float]]]:
        """The learning rate of every optimiser as a function of the step."""
        ...

    def step(self, image: Tensor, rng: np.random.Generator) -> Metrics:
        """Take one optimiser step on (B, 3, H, W) in [-1, 1]; return scalars."""
        ...

    def validate(self) -> Metrics:
        """Return figures of the averaged weights on held-out pictures."""
        ...

    def preview(self) -> Image.Image:
        """Return a grid of fixed held-out pictures."""
        ...

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        """Write the stage's networks into a model folder."""
        ...


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Return the context in which a stage runs its networks; off for float32."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of `model`, quick at first: decay min(decay, (1 + n) / (10 + n)).

    Buffers (the codebooks, averages already) are copied as they are (section 3.1).
    """

    @torch.no_grad()
    def move(averaged: Any, current: Any, count: Any) -> None:
        n = float(count)
        for a, c in zip(averaged, current, strict=True):
            a.lerp_(c, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, multi_avg_fn=move)


def schedule(kind: str, rate: float, steps: int, width: int = 0) -> Callable[[int], float]:
    """Return step -> learning rate: constant, cosine after a short warm-up, or the paper's decay (section 3.2)."""
    warmup = min(200, max(1, steps // 20))

    def cosine(step: int) -> float:
        if step < warmup:
            return rate * (step + 1) / warmup
        return rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def noam(step: int) -> float:
        return rate * width**-0.5 * min((step + 1) ** -0.35, (step + 1) * 16000**-1.5)

    return {"constant": lambda step: rate, "cosine": cosine, "noam": noam}[kind]


def run(
    stage: Stage,
    batches: Batches,
    out: Path,
    steps: int,
    seed: int,
    log_every: int,
    validate_every: int,
    checkpoint_every: int,
    quiet: bool = False,
) -> Metrics:
    """Train `stage` up to `steps`, from the latest checkpoint in `out`/<stage> when there is one.

    Each step's randomness is a function of (seed, step), so that a resumed run ends with the weights of an
    uninterrupted one. Returns the last validation figures.
    """
    folder = out / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.pt", folder / "metrics.jsonl"
    start, figures = _resume(stage, checkpoint, log)
    sums: dict[str, float] = {}
    counted, since = 0, time.perf_counter()
    bar = tqdm(total=steps, initial=start, desc=stage.name, unit="step", disable=quiet, mininterval=1.0)
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(batches, start)
        for step in range(start, steps):
            image, rng = following.result()
            following = ahead.submit(batches, step + 1)
            torch.manual_seed(seed * 1_000_003 + step)
            for optimiser, rate in stage.rates:
                for group in optimiser.param_groups:
                    group["lr"] = rate(step)
            for key, value in stage.step(image, rng).items():
                sums[key] = sums.get(key, 0.0) + float(value)
            counted += 1
            done = step + 1
            bar.update()
            if done % log_every == 0 or done == steps:
                means = {key: value / counted for key, value in sums.items()}
                _check_finite(stage.name, done, means)
                speed = counted * batches.batch_size / (time.perf_counter() - since)
                _append(log, {"step": done, **means, "pictures_per_s": speed})
                bar.set_postfix({k: f"{v:.3g}" for k, v in list(means.items())[:4]} | {"pictures/s": f"{speed:.1f}"})
                sums, counted, since = {}, 0, time.perf_counter()
            if done % validate_every == 0 or done == steps:
                figures = stage.validate()
                _append(log, {"step": done, **{f"val_{k}": v for k, v in figures.items()}})
                bar.write(f"{stage.name} step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                stage.preview().save(folder / f"preview_{done:06d}.png")
                stage.export(out / "model", done, figures, last=done == steps)
                since = time.perf_counter()
            if done % checkpoint_every == 0 or done == steps:
                _save(stage, checkpoint, done, figures)
    bar.close()
    return figures


def _save(stage: Stage, path: Path, step: int, figures: Metrics) -> None:
    state = {name: part.state_dict() for name, part in stage.state.items()}
    write_atomic(path, lambda f: torch.save({"step": step, "figures": figures, "state": state}, f))


def _resume(stage: Stage, path: Path, log: Path) -> tuple[int, Metrics]:
    if not path.exists():
        log.unlink(missing_ok=True)
        return 0, {}
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in stage.state.items():
        part.load_state_dict(saved["state"][name])
    if log.exists():
        kept = [line for line in log.read_text().splitlines() if _step_of(line) <= saved["step"]]
        write_atomic(log, lambda f: f.write("".join(line + "\n" for line in kept).encode()))
    return saved["step"], saved["figures"]


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # a line cut short by a kill
        return math.inf


def _append(log: Path, values: Metrics) -> None:
    with log.open("a") as f:
        f.write(json.dumps({k: v if isinstance(v, int) else round(float(v), 6) for k, v in values.items()}) + "\n")
        f.flush()
        os.fsync(f.fileno())


def _check_finite(name: str, step: int, means: dict[str, float]) -> None:
    broken = [key for key, value in means.items() if not math.isfinite(value)]
    if broken:
        raise FloatingPointError(f"{name}: {', '.join(broken)} not finite at step {step}; the last checkpoint is kept")
