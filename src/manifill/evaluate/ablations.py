"""The paper's ablations (Tables 2 and 3): the same budget for every variant, then one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifill.data import dataset
from manifill.evaluate.features import FeatureNetwork, Perceptual
from manifill.evaluate.methods import TrueCodes
from manifill.evaluate.run import task as task_of
from manifill.evaluate.scores import Task, figures
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import load_structure, load_texture, load_vqvae, model_hash
from manifill.train.config import RunOptions
from manifill.train.finetune import take
from manifill.train.presets import ABLATIONS
from manifill.train.presets import preset as preset_named
from manifill.train.run import train_on
from manifill.train.sampled_codes import CodeSampler

BATCH = 20
SHOWN = ("psnr", "ssim_skimage7", "IS", "FD-", "FID", "perceptual_", "seam_ratio")


def ablate(
    data: Sequence[Path],
    val: Sequence[Path],
    out: Path,
    preset: str,
    tables: Sequence[int],
    options: RunOptions,
    networks: Sequence[FeatureNetwork],
    perceptual: Sequence[Perceptual],
    protocol: str = "paper-centre",
    model: Path | None = None,
) -> None:
    """Train a texture generator for each variant on one VQ-VAE; measure each on the validation pictures.

    All paint the same structures, which one structure generator has sampled, so that only the texture generators
    differ. It and the VQ-VAE are those of `model`, or trained first; `options.steps` counts for the variants alone. The
    same call goes on after an interruption. Writes OUT/ablations.json, ablations.md and structures.npz.
    """
    pictures, held_out = dataset.load(data, val, preset_named(preset).model.image_size, quiet=options.quiet)
    names = [path.name for path in data]
    first = model or out / "first" / "model"
    if model is None:
        own = RunOptions(seed=options.seed, quiet=options.quiet)
        train_on(["vqvae", "structure"], pictures, held_out, out / "first", preset, own, names)
    task = task_of(held_out, protocol, networks, perceptual)
    codes = sampled(first, task)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "structures.npz", lambda f: np.savez_compressed(f, codes=codes.numpy().astype(np.uint16)))
    found: dict[str, Any] = {}
    for variant in (v for v, a in ABLATIONS.items() if a.table in tables):
        if ABLATIONS[variant].features in ("perceptual", "all") and options.perceptual is None:
            print(f"{variant}: left out, it needs a feature network (--perceptual)")
            continue
        run = out / variant
        take(first, run, ["vqvae", "structure"])
        train_on(["texture"], pictures, held_out, run, f"{preset}+{variant}", options, names)
        found[variant] = score(run / "model", variant, task, codes)
        write_tables(out, found)


def sampled(folder: Path, task: Task) -> Tensor:
    """Return structure codes (N, h, w) of a model's structure generator for all pictures, seed k for picture k."""
    vqvae, header = load_vqvae(folder)
    sampler = CodeSampler(load_structure(folder, header.codebook)[0], vqvae, torch.device("cpu"))
    found = []
    for numbers, image in task.pictures.batches(len(task.pictures), BATCH):
        mask = torch.from_numpy(np.stack([task.holes(k) for k in numbers]))
        truth = vqvae.encode(image).structure_codes
        found.append(sampler.codes(image, mask[:, None].float(), truth, torch.tensor(numbers)))
    return torch.cat(found)


def score(folder: Path, variant: str, task: Task, codes: Tensor) -> dict[str, Any]:
    """Return the figures of a trained variant and what it is."""
    vqvae, header = load_vqvae(folder)
    texture, trained = load_texture(folder, header.codebook)
    method = TrueCodes(vqvae, texture, variant, model_hash(folder), codes=codes)  # a module is its own forward
    return {"figures": figures(task.score(method)), "step": trained.step, "about": task.about | method.about}


def write_tables(out: Path, found: dict[str, Any]) -> None:
    """Write what is known so far as JSON and as a table in Markdown."""
    write_atomic(out / "ablations.json", json.dumps(found, indent=1))
    keys = [k for k in next(iter(found.values()))["figures"] if k.startswith(SHOWN) and k != "seam_photo"]
    lines = [["variant", "steps", *keys], ["---"] * (len(keys) + 2)]
    lines += [[v, str(m["step"]), *(f"{m['figures'][k]:.4g}" for k in keys)] for v, m in found.items()]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    write_atomic(out / "ablations.md", text)
