"""`manifill train`: which stages to run, on what, and what must hold before the next one starts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
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
from manifill.train.config import Preset, RunOptions
from manifill.train.distributed import ALONE, Processes, launch
from manifill.train.gate import check_vqvae
from manifill.train.length import in_minutes
from manifill.train.logs import read_log, spent
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
from manifill.train.taught_stage import TaughtStage
from manifill.train.tensorboard import writer_class
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage

STAGES = ("vqvae", "structure", "texture")


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
    if options.tensorboard:
        writer_class()  # missing, it is missed before anything is trained
    named = preset_named(preset)
    with launch(options.accumulate, options.compile) as processes:
        options = dataclasses.replace(options, quiet=options.quiet or not processes.first)
        pictures, held_out = dataset.load(data, val, named.model.image_size, options.crop, options.limit, options.quiet)
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
    ends = time.monotonic() + 60 * max(options.minutes - minutes_spent(out), 0) if options.minutes else None
    usual = {name: getattr(settings, name).steps for name in stages}
    for k, name in enumerate(stages):
        processes.check(getattr(settings, name).batch_size)
        seen = pictures.sample(SEEN) if name == "structure" and processes.first else None
        own = settled = dataclasses.replace(options, precision=precision(out, name, options, processes.device))
        plan, following = None, stages[k + 1 :]
        if ends is not None:
            seconds = seconds_for(name, following, ends)
            given = name, settings, pictures, held_out, seen, out, settled, seconds, processes
            settings, own, plan = timed(*given, bool(following and saved_settings(out, following[0])))
        stage = build(name, settings, held_out, out, settled, processes, seen, judge)
        with held(out / name) if processes.first else nullcontext():  # after the gates: a refused one leaves no trace
            remember(out, name, settings, settled, pictures, processes.first, usual[name])
            pictures.keep(out, processes.first)
            with batches_of(name, settings, pictures, options, processes) as batches:
                run(stage, batches, out, getattr(settings, name).steps, own, processes, plan)
        if plan is not None and stage.steps < plan.least:
            assert options.minutes is not None
            raise ValueError(say_too_short(name, stage.steps, plan.least, options.minutes))
        if processes.first:
            finetune.complete_model(out, options.init_from)
            write_card(out, preset, names, val_names)


def held(folder: Path) -> AbstractContextManager[None]:
    """Hold a stage's folder: two processes in it would write over each other. Raises DataError when another does."""
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{folder}: another process is training here; wait for it, stop it or use another --out"
    return locked(folder / "lock", DataError(refusal))


def batches_of(
    name: str, settings: Preset, pictures: dataset.Collection | Stream, options: RunOptions, processes: Processes
) -> Batches:
    """Return a stage's batches, or this process's part of them."""
    training, part = getattr(settings, name), (processes.index, processes.count)
    geometry = getattr(training, "geometry", 0.0)  # the VQ-VAE needs none
    return Batches(pictures, training.batch_size, options.seed, training.flip, part, options.workers, geometry)


def timed(
    name: str,
    settings: Preset,
    pictures: dataset.Collection | Stream,
    held_out: Pictures,
    seen: Pictures | None,
    out: Path,
    options: RunOptions,
    seconds: float,
    processes: Processes,
    built_upon: bool = False,
) -> tuple[Preset, RunOptions, StepPlan | None]:
    """Return settings and options with the steps that fit into `seconds`, and the plan that looks again as it runs.

    A stage that was started takes the steps that it was started with, without a plan, unless it is given more minutes
    than it was: it goes on then, but for a VQ-VAE that others are `built_upon`, whose codes must stay. Raises
    ValueError where too few steps fit.
    """
    assert options.minutes is not None
    before, plan, least = saved_settings(out, name), None, min(LEAST, max(1, getattr(settings, name).steps // 4))
    steps = before["training"]["steps"] if before else 0
    more = before.get("minutes") is not None and options.minutes > before["minutes"] if before else True
    if before and more and name == "vqvae" and built_upon:
        print("vqvae: stays as it is, because the other stages are trained on its codes; they get the time")
        more = False
    ends = time.monotonic() + seconds
    if more:
        stage = build(name, settings, held_out, out, options, processes, seen)
        with batches_of(name, settings, pictures, options, processes) as batches:
            fits = steps_that_fit(stage, batches, options.seed, seconds, processes)
        steps = fits + read_log(out, name).taken
    if steps < least and (more or before.get("minutes") is not None):
        raise ValueError(say_too_short(name, steps, least, options.minutes))
    if more:
        print(f"{name}: about {steps} steps in {in_minutes(round(seconds / 60, 1))}")
        plan = StepPlan(ends, least, processes, partial(settle, out, name) if processes.first else lambda steps: None)
    every = max(1, -(-steps // VALIDATIONS))
    options = dataclasses.replace(
        options,
        log_every=min(options.log_every, max(1, steps // 16)),
        validate_every=min(options.validate_every, every),
        checkpoint_every=min(options.checkpoint_every, every),
    )
    return with_options(settings, [name], dataclasses.replace(options, minutes=None, steps=steps)), options, plan


def minutes_spent(out: Path) -> float:
    """Return how long a run has trained, by its logs: a stage that was refused has taken nothing of what was given."""
    return sum(spent(read_log(out, name)) or 0.0 for name in STAGES) / 60


def build(
    name: str,
    settings: Preset,
    val: Pictures,
    out: Path,
    options: RunOptions,
    processes: Processes = ALONE,
    seen: Pictures | None = None,
    judge: Judge | None = None,
) -> Stage:
    """Return the stage `name`, its networks initialised from the seed or with the weights of `options.init_from`."""
    torch.manual_seed(options.seed)
    device, first = processes.device, options.init_from
    setup = Setup(settings, val, device, PRECISIONS[options.precision], processes)
    if name == "vqvae":
        return VQVAEStage(setup, same_sizes(*load_vqvae(first), settings.model.vqvae) if first else None)
    own = getattr(settings, name)
    kinds: Any = tuple(mask_kinds(own.masks, options.mask_files, settings.model.image_size))
    setup = dataclasses.replace(
        setup, preset=dataclasses.replace(settings, **{name: dataclasses.replace(own, masks=kinds)})
    )
    path = out / "model" / "vqvae.safetensors"
    if not path.exists():
        raise ModelError(f"{path}: missing; train the vqvae stage into {out} first")
    vqvae, header = load_vqvae(out / "model")
    VQVAE(vqvae.config)  # drawn and left: the first weights of a seed come after it, as when loading drew them
    vqvae = same_sizes(vqvae, header, settings.model.vqvae).to(device)
    check_vqvae(vqvae_metrics(vqvae, val, device, limit=100), header.path, options.force)
    if name == "structure":
        start = finetune.init_structure(first, vqvae, val, settings.model.structure) if first else None
        if not settings.structure.autoguidance:
            return StructureStage(setup, vqvae, start, seen)
        assert start is not None  # RunOptions asks for both
        assert options.weaker is not None
        weaker, _ = load_structure(options.weaker, header.codebook)
        return TaughtStage(setup, vqvae, start, weaker, seen)
    generator = finetune.init_texture(first, vqvae, val, settings.model.texture) if first else None
    discriminator = finetune.init_discriminator(first, settings.model.discriminator) if first else None
    pyramid = feature_maps(options.perceptual, device) if options.perceptual else None
    sampler = None
    if settings.texture.sampled_codes:
        sampler = CodeSampler(load_structure(sampler_folder(out, options), header.codebook)[0], vqvae, device)
    return TextureStage(setup, vqvae, generator, discriminator, pyramid, sampler, judge)
