"""`manifill train`: which stages to run, on what, and what must hold before the next one starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from manifill.data import dataset
from manifill.data.batches import Batches
from manifill.data.mask_files import mask_kinds
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError, last_part
from manifill.data.stream import Stream
from manifill.memory import keep_freed_memory
from manifill.networks.atomic import locked
from manifill.networks.checkpoint import ModelError, load_structure, load_vqvae
from manifill.networks.vqvae import VQVAE
from manifill.train import finetune, report
from manifill.train.budget import LEAST, VALIDATIONS, StepPlan, say_too_short, seconds_for, steps_that_fit
from manifill.train.card import write_card
from manifill.train.config import TRAININGS, Preset, RunOptions
from manifill.train.diagnosis import check_vqvae
from manifill.train.distill import TaughtStage
from manifill.train.distributed import ALONE, Processes, launch
from manifill.train.logs import in_minutes, read_log
from manifill.train.loop import Judge, Setup, Stage, run
from manifill.train.measure import vqvae_metrics
from manifill.train.perceptual import feature_maps
from manifill.train.presets import preset as preset_named
from manifill.train.sampled_codes import CodeSampler
from manifill.train.settings import (
    PRECISIONS,
    precision,
    remember,
    same_sizes,
    sampler_folder,
    saved_settings,
    settle,
    with_options,
)
from manifill.train.structure import SEEN, StructureStage
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage


def train(
    stages: Sequence[str],
    data: Sequence[Path | str],
    out: Path,
    preset: str,
    options: RunOptions,
    val: Sequence[Path | str] = (),
    judge: Judge | None = None,
) -> None:
    """Train `stages` in order into `out`; the same call resumes after an interruption.

    With a `judge` the texture stage keeps the weights that it finds best.
    """
    keep_freed_memory(large=True)
    size = preset_named(preset).model.image_size
    with launch(options.accumulate, options.compile) as processes:
        options = replace(options, quiet=options.quiet or not processes.first)
        pictures, held_out = dataset.load(data, val, size, options.crop, options.limit, options.quiet)
        names = [last_part(p) for p in data], [last_part(p) for p in val]
        train_on(stages, pictures, held_out, out, preset, options, *names, processes, judge)
        if processes.first:
            print(report.write_report(out))


def train_on(
    stages: Sequence[str],
    pictures: dataset.Collection | Stream,
    held_out: Pictures,
    out: Path,
    preset: str,
    options: RunOptions,
    names: Sequence[str],
    val_names: Sequence[str] | None = None,
    processes: Processes = ALONE,
    judge: Judge | None = None,
) -> None:
    """Train `stages` on pictures of `dataset.load`; the names say in the card where they are from (see card.py)."""
    settings = with_options(preset_named(preset), stages, options)
    stages = finetune.stages_to_train(stages, held_out, out, settings.model, options, processes)
    # by its logs: a stage that was refused has taken nothing of what was given
    spent = sum(read_log(out, name).seconds or 0.0 for name in TRAININGS)
    ends = time.monotonic() + max(60 * options.minutes - spent, 0) if options.minutes else None
    for k, name in enumerate(stages):
        usual, following = getattr(settings, name), stages[k + 1 :]
        processes.check(usual.batch_size)
        own = replace(options, precision=precision(out, name, options, processes.device))
        one, plan = OneStage(name, out, settings, own, pictures, held_out, processes, judge), None
        if ends is not None:
            built_upon = bool(following and saved_settings(out, following[0]))
            one, plan = one.timed(seconds_for(name, following, ends), built_upon)
        stage = one.build()
        with held(out / name) if processes.first else nullcontext():  # after the gates: a refused one leaves no trace
            remember(out, name, one.settings, one.options, pictures, processes.first, usual.steps)
            pictures.keep(out, processes.first)
            with one.batches() as batches:
                run(stage, batches, out, one.training.steps, one.options, processes, plan)
        if plan is not None and stage.steps < plan.least:
            raise say_too_short(name, stage.steps, plan.least, options)
        if processes.first:
            finetune.complete_model(out, options.init_from)
            write_card(out, preset, names, val_names)


def held(folder: Path) -> AbstractContextManager[None]:
    """Hold a stage's folder: two processes in it would write over each other. Raises DataError when another does."""
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{folder}: another process is training here; wait for it, stop it or use another --out"
    return locked(folder / "lock", DataError(refusal))


@dataclass(frozen=True)
class OneStage:
    """A stage that is to be trained: its settings and the run's, what it is trained on, and who trains it."""

    name: str
    out: Path
    settings: Preset
    options: RunOptions
    pictures: dataset.Collection | Stream
    held_out: Pictures
    processes: Processes
    judge: Judge | None

    @property
    def training(self) -> Any:
        """How this stage is trained."""
        return getattr(self.settings, self.name)

    def batches(self) -> Batches:
        """Return its batches, or this process's part of them."""
        t, part = self.training, (self.processes.index, self.processes.count)
        geometry = getattr(t, "geometry", 0.0)  # the VQ-VAE needs none
        return Batches(self.pictures, t.batch_size, self.options.seed, t.flip, part, self.options.workers, geometry)

    def timed(self, seconds: float, built_upon: bool) -> tuple[OneStage, StepPlan | None]:
        """Return this with the steps that fit into `seconds`, and the plan that looks again as it runs.

        A stage that was started takes the steps that it was started with, without a plan, unless it is given more
        minutes than it was: it goes on then, but for a VQ-VAE that others are `built_upon`, whose codes must stay.
        Raises ValueError where too few steps fit.
        """
        ends, least = time.monotonic() + seconds, min(LEAST, max(1, self.training.steps // 4))
        before = saved_settings(self.out, self.name)
        steps, minutes = (before["training"]["steps"], before.get("minutes")) if before else (0, 0)
        assert self.options.minutes is not None
        more, plan = minutes is not None and self.options.minutes > minutes, None  # None: it was told its steps
        if more and before and self.name == "vqvae" and built_upon:
            print("vqvae: stays as it is, because the other stages are trained on its codes; they get the time")
            more = False
        if more:
            with redirect_stdout(None):  # what it says is said when it is built to stay
                trial = self.build()
            with self.batches() as batches:
                fits = steps_that_fit(trial, batches, seconds, self.processes)
            steps = fits + read_log(self.out, self.name).taken
        if steps < least and minutes is not None:
            raise say_too_short(self.name, steps, least, self.options)
        if more:
            print(f"{self.name}: about {steps} steps in {in_minutes(round(seconds / 60, 1))}")
            plan = StepPlan(ends, least, self.processes, partial(settle, self.out, self.name))
        every = max(1, -(-steps // VALIDATIONS))
        options = replace(
            self.options,
            log_every=min(self.options.log_every, max(1, steps // 16)),
            validate_every=min(self.options.validate_every, every),
            checkpoint_every=min(self.options.checkpoint_every, every),
        )
        settings = replace(self.settings, **{self.name: replace(self.training, steps=steps)})
        return replace(self, settings=settings, options=options), plan

    def build(self) -> Stage:
        """Return the stage, its networks initialised from the seed or with the weights of `options.init_from`."""
        o, sizes, first, device = self.options, self.settings.model, self.options.init_from, self.processes.device
        torch.manual_seed(o.seed)
        setup = Setup(self.settings, self.held_out, device, PRECISIONS[o.precision], self.processes)
        if self.name == "vqvae":
            return VQVAEStage(setup, same_sizes(*load_vqvae(first), sizes.vqvae) if first else None)
        kinds: Any = tuple(mask_kinds(self.training.masks, o.mask_files, sizes.image_size))
        preset = replace(self.settings, **{self.name: replace(self.training, masks=kinds)})
        setup = replace(setup, preset=preset)
        path = self.out / "model" / "vqvae.safetensors"
        if not path.exists():
            raise ModelError(f"{path}: missing; train the vqvae stage into {self.out} first")
        vqvae, header = load_vqvae(self.out / "model")
        VQVAE(vqvae.config)  # drawn and left: the first weights of a seed come after it, as when loading drew them
        vqvae = same_sizes(vqvae, header, sizes.vqvae).to(device)
        check_vqvae(vqvae_metrics(vqvae, self.held_out, device, limit=100), header.path, o.force)
        if self.name == "structure":
            start = finetune.init_network("structure", first, vqvae, self.held_out, sizes.structure) if first else None
            seen = self.pictures.sample(SEEN) if self.processes.first else None
            if start is None or o.weaker is None:
                return StructureStage(setup, vqvae, start, seen)
            return TaughtStage(setup, vqvae, start, load_structure(o.weaker, header.codebook)[0], seen)
        generator = finetune.init_network("texture", first, vqvae, self.held_out, sizes.texture) if first else None
        discriminator = finetune.init_discriminator(first, sizes.discriminator) if first else None
        pyramid = feature_maps(o.perceptual, device) if o.perceptual else None
        sampler = None
        if self.training.sampled_codes:
            sampler = CodeSampler(load_structure(sampler_folder(self.out, o), header.codebook)[0], vqvae, device)
        return TextureStage(setup, vqvae, generator, discriminator, pyramid, sampler, self.judge)
