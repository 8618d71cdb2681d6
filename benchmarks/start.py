"""How the VQ-VAE's start decides whether it can be trained with the paper's loss alone: codes used and PSNR, four rows.

    python benchmarks/start.py --data TRAIN --val VAL --out OUT

The paper's VQ-VAE (preset `paper-256`) on smaller pictures; the last row is what `manifill train vqvae` does. Each row
goes on after an interruption.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from sampling import table

from manifill.data.batches import Batches
from manifill.data.dataset import load
from manifill.networks.vqvae import VQVAE
from manifill.train.config import RunOptions
from manifill.train.loop import Setup, run
from manifill.train.presets import preset
from manifill.train.settings import PRECISIONS, faster_precision
from manifill.train.vqvae import VQVAEStage


def main() -> None:
    """Train each row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--val", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    pictures, held_out = load(a.data, a.val, a.size, quiet=True)
    paper, device = preset("paper-256"), torch.device("cpu")
    sizes = replace(paper.model, vqvae=replace(paper.model.vqvae, width=a.width, residual_width=a.width // 2))
    settings = replace(paper, model=sizes, vqvae=replace(paper.vqvae, steps=a.steps))
    precision, rows = PRECISIONS[faster_precision(device)], []
    options = RunOptions(seed=a.seed, validate_every=a.steps, checkpoint_every=100, quiet=True)
    for averages in ("full", "the authors'"):
        for weights in ("PyTorch's", "the authors'"):
            torch.manual_seed(a.seed)
            stage = VQVAEStage(Setup(settings, held_out, device, precision))
            if averages == "full":
                stage.begin = "given"  # whose averages are full from the first step
            if weights == "PyTorch's":
                torch.manual_seed(a.seed)
                stage.model.load_state_dict(VQVAE(settings.model.vqvae).state_dict())
            out = a.out / f"{averages[:4]}-{weights[:4]}".replace(" ", "-")
            with Batches(pictures, settings.vqvae.batch_size, a.seed, flip=False) as batches:
                found = run(stage, batches, out, a.steps, options)
            used = f"{found['structure_codes_used']} / {found['texture_codes_used']}"
            rows.append([averages, weights, used, f"{found['psnr']:.1f}", f"{found['psnr_structure']:.1f}"])
            print(rows[-1], flush=True)
    table(["averages", "weights", "codes used, structure / texture", "PSNR", "structure alone"], rows)


if __name__ == "__main__":
    main()
