"""What a run is told besides its preset, and what it remembers of that, so that resuming means going on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from manifill.config import ModelError, SamplingOptions, to_dict
from manifill.data import dataset
from manifill.data.sources import DataError, sources
from manifill.data.stream import Stream
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import Header, model_hash
from manifill.sampling.native import fast_bfloat16
from manifill.train.config import Preset, RunOptions
from manifill.train.logs import read_settings

T = TypeVar("T", bound=nn.Module)
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LATER = ("minutes", "usual_steps")  # settings that change when a run is prolonged


def with_options(preset: Preset, stages: Sequence[str], options: RunOptions) -> Preset:
    """Return the preset with what the run says of these stages' training in place of the preset's."""
    for stage in stages:
        training = getattr(preset, stage)
        said = {f.name: getattr(options, f.name) for f in dataclasses.fields(training)}
        own = {name: value for name, value in said.items() if value is not None}
        preset = dataclasses.replace(preset, **{stage: dataclasses.replace(training, **own)})
    return preset


def faster_precision(device: torch.device) -> str:
    """Return bf16 or fp32, whichever trains faster there."""
    return "bf16" if fast_bfloat16(device) else "fp32"


def precision(out: Path, name: str, options: RunOptions, device: torch.device) -> str:
    """Return bf16, fp16 or fp32: what the options say or, for auto, what the stage was started with or is faster."""
    if options.precision != "auto":
        return options.precision
    faster = faster_precision(device)
    before = saved_settings(out, name).get("precision", faster)
    if before not in (faster, "fp16"):
        print(f"{name}: goes on in {before}, as it was started; this machine is faster in {faster}")
    return before


def sampler_folder(out: Path, options: RunOptions) -> Path:
    """Return the folder of the structure generator that samples for the texture stage. Raises ModelError."""
    for folder in (out / "model", options.init_from):
        if folder is not None and (folder / "structure.safetensors").exists():
            return folder
    raise ModelError(
        f"{out / 'model' / 'structure.safetensors'}: missing; sampled codes need a structure generator, "
        "trained into the same folder or of --init-from"
    )


def saved_settings(out: Path, name: str) -> dict[str, Any]:
    """Return what a stage was started with, empty when it was not. Raises DataError for a damaged file."""
    found = read_settings(out / name)
    if found and found.get("precision") not in [*PRECISIONS]:  # a list, as it may be anything
        said = str(found.get("precision"))[:40]
        raise DataError(f"{out / name / 'config.json'}: precision is {said!r}; expected {', '.join(PRECISIONS)}")
    if found:  # an option that did not exist yet meant its default
        found["training"] = to_dict(getattr(Preset(), name)) | found["training"]
    return found


def remember(
    out: Path,
    name: str,
    settings: Preset,
    options: RunOptions,
    pictures: dataset.Collection | Stream,
    write: bool,
    usual: int,
) -> None:
    """Write what this stage is trained with, or check that a run to be resumed was started with the same.

    `usual` are the steps that the preset would take, for the diagnosis of a run that was given less time.
    """
    masks = prior = None
    if options.mask_files and name != "vqvae":
        masks = dataset.listing_digest(sources([options.mask_files]))
    if name == "texture" and settings.texture.sampled_codes:
        file = sampler_folder(out, options) / "structure.safetensors"
        prior = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    now = {
        "model": to_dict(settings.model),
        "training": to_dict(getattr(settings, name)),
        "seed": options.seed,
        "precision": options.precision,
        "crop": options.crop,
        **pictures.identity,
        "init_from": model_hash(options.init_from) if options.init_from else None,
        "perceptual": options.perceptual.name if options.perceptual else None,
        "mask_files": masks,
        "drawn_from": prior,
        "weaker": model_hash(options.weaker) if options.weaker and name == "structure" else None,
        "minutes": options.minutes,
        "usual_steps": usual,
    }
    path, before = out / name / "config.json", saved_settings(out, name)
    if before:
        then, present = dataset.comparable(before, now)
        changed = differences(then | dict.fromkeys(LATER), present | dict.fromkeys(LATER))
        if any(not words.startswith("training.steps:") for words in changed):
            raise DataError(
                f"{path}: this run was started with other settings ({'; '.join(changed)}); "
                "use the same ones to resume or another --out to start anew"
            )
        if not changed:
            return
        now["usual_steps"] = before.get("usual_steps", usual)
        print(f"{name}: resuming with another number of steps ({changed[0]})")
    elif (path.parent / "checkpoint.pt").exists():
        raise DataError(
            f"{path}: missing, so nobody can tell whether checkpoint.pt beside it was trained with these "
            "settings; put it back, or remove checkpoint.pt to begin this stage anew"
        )
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(now, indent=1))


def settle(out: Path, name: str, steps: int) -> None:
    """Keep another number of steps for a stage that runs, as a plan by its pace finds it."""
    found = read_settings(out / name)
    found["training"]["steps"] = steps
    write_atomic(out / name / "config.json", json.dumps(found, indent=1))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings in one dict, with dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two nested settings, in words."""
    a, b = flat(before), flat(now)
    return [f"{k}: {a.get(k)} then, {b.get(k)} now" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]


def same_sizes(network: T, header: Header, wanted: Any) -> T:
    """Return the network when it has the preset's sizes, else raise ModelError with what differs."""
    # a model's defaults for sampling are not its size
    own = {f.name for f in dataclasses.fields(SamplingOptions)}
    before, now = ({k: v for k, v in c.items() if k not in own} for c in (to_dict(network.config), to_dict(wanted)))
    changed = differences(before, now)
    if changed:
        raise ModelError(f"{header.path}: does not have the preset's sizes ({'; '.join(changed)})")
    return network
