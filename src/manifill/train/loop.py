"""The training loop: one stage, resumable to the same weights, with metrics, previews and atomic checkpoints."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from manifill.data.batches import Batches
from manifill.data.masks import Kind, draw
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError
from manifill.networks.atomic import WriteError, remove_stray, write_atomic
from manifill.train import logs, resume
from manifill.train.config import Preset, RunOptions
from manifill.train.diagnosis import diagnose
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.resume import Stateful
from manifill.train.tensorboard import add_figures, board

Metrics = dict[str, Any]
CPU = torch.device("cpu")


class Judge(Protocol):
    """Measures completions of held-out pictures with a network that no loss has used."""

    name: str  # of the metric whose lowest value says which weights are the best

    def __call__(
        self, complete: Callable[[Tensor, Tensor], Tensor], pictures: Pictures, device: torch.device
    ) -> Metrics:
        """Return metrics, among them `name`; `complete` takes pictures (N, 3, H, W) and masks (N, 1, H, W)."""
        ...


class Best(nn.Module):
    """The lowest value so far of the metric that says which weights are the best; checkpoints carry it."""

    lowest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.tensor(math.inf))

    def improved(self, value: float) -> bool:
        """Say whether a value is the lowest so far, which it then is."""
        if value >= float(self.lowest):
            return False
        self.lowest.fill_(value)
        return True


@dataclass(frozen=True)
class Setup:
    """What every stage is made with: the preset, the held-out pictures, where and how precisely it computes."""

    preset: Preset
    val: Pictures
    device: torch.device = CPU
    precision: torch.dtype = torch.float32
    processes: Processes = ALONE

    def autocast(self) -> torch.autocast:
        """Return the context in which a stage runs its networks; off for float32."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)


class Stage:
    """What the loop asks of a stage, and what all of them keep."""

    name: str
    masks: Sequence[str | Kind] = ()  # the kinds that its steps need
    rates: Sequence[tuple[torch.optim.Optimizer, Callable[[int], float]]]  # every optimiser's, by the step

    def __init__(self, setup: Setup, options: Any) -> None:
        self.setup, self.options, self.val = setup, options, setup.val
        self.device, self.processes, self.size = setup.device, setup.processes, setup.preset.model.image_size
        self.steps: int = options.steps  # planned for, which the schedules of the rates follow; a plan may change it
        # keeps float16 gradients from vanishing and skips steps that overflow; else it does nothing
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == torch.float16)
        # what a checkpoint holds
        self.state: dict[str, Stateful] = {"scaler": self.scaler} if self.scaler.is_enabled() else {}

    def step(self, own: Share) -> Sequence[Metrics]:
        """Take one optimiser step on this process's share of a batch; return figures, on the device, for `means`."""
        raise NotImplementedError

    def validate(self) -> Metrics:
        """Return figures of the averaged weights on held-out pictures."""
        raise NotImplementedError

    def preview(self) -> Image.Image:
        """Return a grid of fixed held-out pictures."""
        raise NotImplementedError

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        """Write the stage's networks into a model folder."""
        raise NotImplementedError


def average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of `model`, quick at first: decay min(decay, (1 + n) / (10 + n)).

    Buffers (the codebooks, averages already) are copied as they are (section 3.1).
    """

    @torch.no_grad()
    def move(averaged: Any, current: Any, _: Any) -> None:
        n = float(result.n_averaged)  # on the CPU; the copy handed in is on the device, and to read it would wait
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))  # type: ignore[attr-defined]

    result = AveragedModel(model, multi_avg_fn=move)
    return result


def schedule(kind: str, rate: float, planned: Callable[[], int], width: int = 0) -> Callable[[int], float]:
    """Return step -> learning rate: constant, cosine after a short warm-up, or the paper's decay (section 3.2).

    `planned` says how many steps there are to be, which may change on the way.
    """

    def cosine(step: int) -> float:
        steps = planned()
        warmup = min(200, max(1, steps // 20))
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
    options: RunOptions,
    processes: Processes = ALONE,
    plan: Callable[[int, int], int] | None = None,
) -> Metrics:
    """Train `stage` up to `steps`, from the latest checkpoint in `out`/<stage> when there is one.

    Each step's randomness is a function of (seed, step), so that a resumed run ends with the weights of an
    uninterrupted one. A `plan` is asked at every line of the log, with the steps taken and those to take, how many it
    shall be. Only the first process writes; it says on stderr, once each, what the figures show to be wrong.
    Returns its last validation figures. Raises ValueError when TensorBoard is asked for and not installed.
    """
    folder, first = out / stage.name, processes.first
    checkpoint, log = folder / "checkpoint.pt", folder / "metrics.jsonl"
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (checkpoint, log, folder / "preview", folder / "config.json", *stage_files(out, stage.name)):
            remove_stray(path)  # what a killed run of this stage left half written, and nobody else's
    start, figures = resume.load_checkpoint(stage.state, checkpoint)
    if not processes.agree(start):
        raise DataError(f"{checkpoint}: not the same for all processes; they need a folder that all of them see")
    if first:
        _cut(log, start)
    taken: list[Sequence[Metrics]] = []  # figures since the last line of the log
    told: set[str] = set()
    since, quiet = time.perf_counter(), options.quiet or not first
    bar = tqdm(total=steps, initial=start, desc=stage.name, unit="step", disable=quiet, mininterval=1.0)
    prepare = partial(own_share, batches, stage.masks, processes.device)
    events = board(folder / "tensorboard", start) if options.tensorboard and first else nullcontext()
    with events as writer, ThreadPoolExecutor(1) as ahead:
        following, done = ahead.submit(prepare, start), start
        while done < steps:
            own = following.result()
            following = ahead.submit(prepare, done + 1)
            torch.manual_seed(options.seed * 1_000_003 + done)
            for optimiser, rate in stage.rates:
                for group in optimiser.param_groups:
                    group["lr"] = rate(done)
            taken.append(stage.step(own))
            done += 1
            bar.update()
            if plan is not None and done % options.log_every == 0:
                bar.total = stage.steps = steps = plan(done, steps)
            intervals = (options.log_every, options.validate_every, options.checkpoint_every)
            reports, validates, saves = (done % interval == 0 or done == steps for interval in intervals)
            if reports or saves:  # a resumed run knows nothing of the steps before its checkpoint
                means = processes.means(taken)
                if broken := [key for key, value in means.items() if not math.isfinite(value)]:
                    said = f"{stage.name}: {', '.join(broken)} not finite at step {done}"
                    raise FloatingPointError(f"{said}; the last checkpoint is kept")
                if first:
                    speed = len(taken) * batches.batch_size / (time.perf_counter() - since)
                    _append(log, {"step": done, **means, "pictures_per_s": speed}, writer)
                    shown = {k: f"{v:.3g}" for k, v in list(means.items())[:4]}
                    bar.set_postfix(shown | {"pictures/s": f"{speed:.1f}"})
                taken, since = [], time.perf_counter()
            if first and validates:
                pause = time.perf_counter()
                figures = stage.validate()
                _append(log, {"step": done, **{f"val_{k}": v for k, v in figures.items()}}, writer)
                bar.write(f"{stage.name} step {done}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                preview = stage.preview()
                write_atomic(folder / f"preview_{done:06d}.png", partial(preview.save, format="PNG"))
                if writer:
                    writer.add_image("preview", np.asarray(preview), done, dataformats="HWC")
                    writer.flush()
                stage.export(out / "model", done, figures, last=done == steps)
                _tell(out, stage.name, told)
                since += time.perf_counter() - pause
            if first and saves:
                resume.save_checkpoint(stage.state, checkpoint, done, figures)
    bar.close()
    if first and start >= steps and not all(path.exists() for path in stage_files(out, stage.name)):
        stage.export(out / "model", start, figures, last=True)  # what a finished stage wrote was removed
    processes.finish()
    return figures


def stage_files(out: Path, name: str) -> list[Path]:
    """Return the files of the run's model that a stage writes."""
    networks = [name, "discriminator"] if name == "texture" else [name]
    return [out / "model" / f"{network}.safetensors" for network in networks]


def own_share(batches: Batches, kinds: Sequence[str | Kind], device: torch.device, step: int) -> Share:
    """Return this process's share of a step's batch; the masks are drawn for all of it."""
    image, rng = batches(step)
    mask, rows = image[:, :0], batches.part
    if kinds:
        mask = draw(kinds, batches.batch_size, image.shape[-1], rng)[rows.start : rows.stop]
    own = Share(image, mask, rows.start, batches.batch_size)
    return own.pinned() if device.type == "cuda" else own


def _tell(out: Path, name: str, told: set[str]) -> None:
    """Say on stderr what is wrong with a stage and not yet in `told`, also where all else is quiet."""
    for problem, words in diagnose(name, logs.read_log(out, name)).problems.items():
        if problem not in told:
            tqdm.write(f"manifill: warning: {name}: {words}", file=sys.stderr)
            told.add(problem)


def _cut(log: Path, step: int) -> None:
    """Keep the lines up to `step`, which a resumed run goes on from."""
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()  # one that a kill cut short has no step
        kept = [line for line in lines if logs.finite_values(line).get("step", math.inf) <= step]
        write_atomic(log, "".join(line + "\n" for line in kept))


def _append(log: Path, values: Metrics, writer: Any = None) -> None:
    line = json.dumps({k: v if isinstance(v, int) else round(float(v), 6) for k, v in values.items()})
    try:
        with log.open("a") as f:
            f.write(line + "\n")
            f.flush()
            os.fsync(f.fileno())
    except OSError as error:
        raise WriteError(log, error) from error
    if writer:
        add_figures(writer, values)
