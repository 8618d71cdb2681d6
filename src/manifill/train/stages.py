"""`manifill train`: which stages to run, on what, and what must hold before the next one starts."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from manifill.checkpoint import (
    Header,
    ModelError,
    load_discriminator,
    load_structure,
    load_texture,
    load_vqvae,
    model_hash,
    write_atomic,
)
from manifill.config import Preset, to_dict
from manifill.memory import keep_freed_memory
from manifill.pictures import Crop, DataError, Pictures
from manifill.presets import preset as preset_named
from manifill.sources import title
from manifill.train import collection
from manifill.train.card import write_card
from manifill.train.data import Batches
from manifill.train.loop import Stage, run
from manifill.train.processes import ALONE, Processes, launched
from manifill.train.stream import Stream
from manifill.train.structure_stage import StructureStage
from manifill.train.texture_stage import TextureStage
from manifill.train.vqvae_stage import VQVAEStage, figures

T = TypeVar("T")
STAGES = ("vqvae", "structure", "texture")
MARGIN = 1.0  # dB by which the structure alone must beat the mean colour
PERPLEXITY = 4.0  # of a codebook that has not collapsed


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Settings of a run that are not the preset's."""

    seed: int = 0
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    precision: str = "bf16"
    accumulate: int = 1
    compile: bool = False
    limit: int | None = None
    crop: Crop = "centre"
    workers: int | None = None
    log_every: int = 50
    validate_every: int = 500
    checkpoint_every: int = 250
    quiet: bool = False
    init_from: Path | None = None
    perceptual: Path | None = None
    force: bool = False


def train(
    stages: Sequence[str], data: Sequence[Path | str], out: Path, preset: str, options: RunOptions,
    val: Sequence[Path | str] = (),
) -> None:  # fmt: skip
    """Train `stages` in order into `out`; the same call resumes after an interruption."""
    keep_freed_memory()
    named = preset_named(preset)
    with launched(options.accumulate, options.compile) as processes:
        options = dataclasses.replace(options, quiet=options.quiet or not processes.first)
        pictures, held_out = load(data, val, named.model.image_size, options)
        train_on(stages, pictures, held_out, out, preset, options, [title(p) for p in data], processes)


def train_on(
    stages: Sequence[str], pictures: collection.Collection | Stream, held_out: Pictures, out: Path, preset: str,
    options: RunOptions, names: Sequence[str], processes: Processes = ALONE,
) -> None:  # fmt: skip
    """Train `stages` on pictures that `load` returned; `names` says in the card where they are from."""
    settings = with_options(preset_named(preset), stages, options)
    for name in stages:
        options_of = getattr(settings, name)
        torch.manual_seed(options.seed)
        processes.check(options_of.batch_size)
        stage = build(name, settings, held_out, out, options, processes)
        # after the gates: a refused stage leaves nothing behind
        remember(out, name, settings, options, pictures, processes.first)
        pictures.keep(out, processes.first)
        part = (processes.index, processes.count)
        with Batches(pictures, options_of.batch_size, options.seed, options_of.flip, part, options.workers) as batches:
            run(stage, batches, out, options_of.steps, options.seed, options.log_every, options.validate_every,
                options.checkpoint_every, options.quiet, processes)  # fmt: skip
        if processes.first:
            write_card(out, preset, list(names))


def build(
    name: str, settings: Preset, val: Pictures, out: Path, options: RunOptions, processes: Processes = ALONE
) -> Stage:
    """Return the stage `name`, its networks freshly initialised."""
    device = processes.device
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[options.precision]
    first = options.init_from
    if name == "vqvae":
        start = same_sizes(*load_vqvae(first), settings.model.vqvae) if first else None
        return VQVAEStage(settings, val, device, precision, start, processes)
    path = out / "model" / "vqvae.safetensors"
    if not path.exists():
        raise ModelError(f"{path}: missing; train the vqvae stage into {out} first")
    vqvae, header = load_vqvae(out / "model")
    vqvae = same_sizes(vqvae, header, settings.model.vqvae).to(device)
    check_vqvae(figures(vqvae, val, device, limit=100), header.path, options.force)
    if name == "structure":
        start = same_sizes(*load_structure(first, header.codebook), settings.model.structure) if first else None
        return StructureStage(settings, vqvae, val, device, precision, start, processes)
    generator, discriminator = None, None
    if first:
        generator = same_sizes(*load_texture(first, header.codebook), settings.model.texture)
        if (first / "discriminator.safetensors").exists():
            found = load_discriminator(first, header.codebook)
            discriminator = same_sizes(*found, settings.model.discriminator)
        else:
            print(f"{first}: has no discriminator, so it starts anew")
    pyramid = feature_maps(options.perceptual, device) if options.perceptual else None
    return TextureStage(settings, vqvae, val, device, precision, generator, discriminator, pyramid, processes)


def feature_maps(path: Path, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """Load a TorchScript feature network's `pyramid`, frozen. Raises ModelError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what these networks come in
            network = torch.jit.load(path, map_location=device).eval()
        for p in network.parameters():
            p.requires_grad_(False)
        return network.pyramid
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not a TorchScript network with `pyramid` ({error})") from error


def same_sizes(network: T, header: Header, wanted: Any) -> T:
    """Return the network when it has the preset's sizes, else raise ModelError with what differs."""
    own = {"temperature", "top_k", "top_p"}  # a model's defaults for sampling are not its size
    before, now = ({k: v for k, v in c.items() if k not in own} for c in (header.config, to_dict(wanted)))
    changed = differences(before, json.loads(json.dumps(now)))
    if changed:
        raise ModelError(f"{header.path}: does not have the preset's sizes ({'; '.join(changed)})")
    return network


def check_vqvae(found: dict, path: Path, force: bool) -> None:
    """Refuse a VQ-VAE whose structure codes carry nothing or whose codebook has collapsed, unless forced."""
    problems = []
    if found["psnr_structure"] < found["psnr_mean_colour"] + MARGIN:
        problems.append(f"its structure codes alone decode to {found['psnr_structure']:.1f} dB, no better than each "
                        f"picture's mean colour ({found['psnr_mean_colour']:.1f} dB): they carry nothing")  # fmt: skip
    for level in ("structure", "texture"):
        if found[f"{level}_perplexity"] < PERPLEXITY:
            problems.append(f"its {level} codebook has collapsed: {found[f'{level}_codes_used']} codes used, "
                            f"perplexity {found[f'{level}_perplexity']:.1f}")  # fmt: skip
    if not problems:
        return
    message = f"{path}: " + "; ".join(problems)
    if not force:
        raise ModelError(f"{message}. Train the VQ-VAE longer or with structure_only, or force with --force")
    print(f"forced: {message}")


def with_options(preset: Preset, stages: Sequence[str], options: RunOptions) -> Preset:
    """Return the preset with the run's own steps, batch size and learning rate where these are given."""
    given = {k: getattr(options, k) for k in ("steps", "batch_size", "learning_rate")}
    given = {k: v for k, v in given.items() if v is not None}
    return dataclasses.replace(preset, **{s: dataclasses.replace(getattr(preset, s), **given) for s in stages})


def load(
    data: Sequence[Path | str], val: Sequence[Path | str], size: int, options: RunOptions
) -> tuple[collection.Collection | Stream, Pictures]:
    """Return training and validation pictures; without a validation set every 20th picture is held out."""
    return collection.load(data, val, size, options.crop, options.limit, options.quiet)


def remember(
    out: Path, name: str, settings: Preset, options: RunOptions, pictures: collection.Collection | Stream,
    write: bool = True,
) -> None:  # fmt: skip
    """Write what this stage is trained with, or check that a run to be resumed was started with the same."""
    now = json.loads(json.dumps({
        "model": to_dict(settings.model), "training": to_dict(getattr(settings, name)), "seed": options.seed,
        "precision": options.precision, "crop": options.crop, **pictures.identity,
        "init_from": model_hash(options.init_from) if options.init_from else None,
        "perceptual": options.perceptual.name if options.perceptual else None,
    }))  # fmt: skip
    path = out / name / "config.json"
    if path.exists():
        before = {"crop": "centre"} | json.loads(path.read_text())  # which once was the only one
        changed = differences(*collection.comparable(before, now))
        if (changed and not changed[0].startswith("training.steps:")) or len(changed) > 1:
            raise DataError(f"{path}: this run was started with other settings ({'; '.join(changed)}); "
                            "use the same ones to resume or another --out to start anew")  # fmt: skip
        if not changed:
            return
        print(f"{name}: resuming with another number of steps ({changed[0]})")
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda f: f.write(json.dumps(now, indent=1).encode()))


def differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Return what differs between two nested settings, in words."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} then, {b} now")
    return found
