"""Quality of a model on held-out pictures with centre holes: every picture, every sample, nothing chosen.

    python benchmarks/quality.py --data TEST.tar --features SQUEEZENET.ts [--model DIR] [--temperature T]

Needs the development extras (OpenCV for the Telea baseline). Distances are named after their feature network,
SqueezeNet: they are not FID. Prints one JSON object; `--grid FILE` also writes photo, masked and six samples of
twelve pictures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manifill.evaluate.features import TorchScriptNetwork
from manifill.evaluate.methods import Classical
from manifill.evaluate.metrics import frechet_distance, psnr
from manifill.image import grid
from manifill.inpainter import Inpainter, KnownCodes
from manifill.pictures import Pictures
from manifill.structure import SamplingOptions
from manifill.train import masks
from manifill.train.vqvae_stage import figures

BATCH = 25


@torch.no_grad()
def complete(
    model: Inpainter,
    image: Tensor,
    mask: Tensor,
    seed: int,
    codes: Tensor | None,
    options: SamplingOptions,
    known_codes: KnownCodes = "exact",
) -> tuple[Tensor, Tensor]:
    """Return composites (N, 3, S, S) in 0..255 and the likelihood of the hole's codes; draws unless given `codes`."""
    score = torch.zeros(len(image))
    if codes is None:
        cond, known = model.condition(image, mask), model.known(image, mask, known_codes)
        sampled = model.sample(cond, [seed + k for k in range(len(image))], options, known)
        codes, score = sampled.codes, model.hole_likelihood(sampled, mask)
    painted, _ = model.paint(model.image_features(image, mask), codes, mask)
    painted = ((painted + 1) * 127.5).round().clamp(0, 255)
    return torch.where(mask > 0, painted, ((image + 1) * 127.5).round()), score


def telea(real: Tensor, mask: Tensor) -> Tensor:
    """Return OpenCV's Telea inpainting of every picture."""
    hole, method = mask[0, 0].numpy() > 0, Classical("telea")
    pictures = real.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    done = np.concatenate([method.complete(p, hole, 0, "").composites for p in pictures])
    return torch.from_numpy(done).permute(0, 3, 1, 2).float()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--model", default="faces-128")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--known-codes", choices=["exact", "cells", "none"], default="exact")
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--quick", action="store_true", help="sampled completions only")
    a = parser.parse_args()
    model, features = Inpainter.from_pretrained(a.model, "cpu"), TorchScriptNetwork(a.features)
    options = model.options(a.temperature, None, a.top_p)
    pictures = Pictures(a.data, model.image_size, a.count, quiet=True)
    mask = masks.centre_mask(model.image_size)
    images = pictures.tensor(range(len(pictures)))
    real = (images + 1) * 127.5
    began = time.perf_counter()
    samples, scores = [], []
    for s in range(a.samples):
        parts = [
            complete(model, x, mask, s * 100_000 + 1000 * k, None, options, a.known_codes)
            for k, x in enumerate(images.split(BATCH))
        ]
        samples.append(torch.cat([p for p, _ in parts]))
        scores.append(torch.cat([s for _, s in parts]))
    seconds = time.perf_counter() - began
    wanted = features.pooled(real)[0]
    result = {
        "date": str(datetime.date.today()), "weights": model.weights, "pictures": len(pictures),
        "pictures_digest": pictures.digest, "temperature": options.temperature, "top_p": options.top_p,
        "known_codes": a.known_codes,
        "fd_squeezenet": float(np.mean([frechet_distance(features.pooled(x)[0], wanted) for x in samples])),
        "psnr": float(torch.stack([psnr(x, real) for x in samples]).mean()),
        "bits_of_sampled_hole_codes": float(-torch.stack(scores).mean() / np.log(2)),
        "seconds_a_completion": seconds / (a.samples * len(pictures)),
    }  # fmt: skip
    if a.samples > 1:
        between = float(features.perceptual(samples[0], samples[1]).mean())
        others = float(features.perceptual(samples[0], samples[0].roll(1, 0)).mean())
        result |= {"perceptual_between_samples": between, "perceptual_between_pictures": others}
    if not a.quick:
        result |= baselines(model, features, pictures, images, real, mask, wanted)
        result["fd_over_telea"] = result["fd_squeezenet"] / result["telea_fd_squeezenet"]
    print(json.dumps(result, indent=1))
    if a.grid:
        write_grid(model, images[:12], mask, options, a.grid)


def baselines(
    model: Inpainter,
    features: TorchScriptNetwork,
    pictures: Pictures,
    images: Tensor,
    real: Tensor,
    mask: Tensor,
    wanted: np.ndarray,
) -> dict:
    """Return the figures of the VQ-VAE, of painting with true structure codes and of Telea."""
    encoder = model.vqvae.encoder
    with torch.no_grad():
        true = [encoder.structure_quantiser.codes(encoder.structure_features(x)) for x in images.split(BATCH)]
    parts = [
        complete(model, x, mask, 0, c, model.options(None, None, None))[0]
        for x, c in zip(images.split(BATCH), true, strict=True)
    ]
    with_true, drawn = torch.cat(parts), telea(real, mask)
    return {f"vqvae_{k}": v for k, v in figures(model.vqvae, pictures, model.device).items()} | {
        "true_codes_fd_squeezenet": frechet_distance(features.pooled(with_true)[0], wanted),
        "true_codes_psnr": float(psnr(with_true, real).mean()),
        "telea_fd_squeezenet": frechet_distance(features.pooled(drawn)[0], wanted),
        "telea_psnr": float(psnr(drawn, real).mean()),
    }


def write_grid(model: Inpainter, images: Tensor, mask: Tensor, options: SamplingOptions, path: Path) -> None:
    """Write photo, masked and six samples of every picture, drawn without choosing."""
    real = (images + 1) * 127.5
    columns = [real, torch.where(mask > 0, torch.tensor(255.0), real)]
    columns += [complete(model, images, mask, 7_000_000 + 1000 * s, None, options)[0] for s in range(6)]
    grid([c.to(torch.uint8).permute(0, 2, 3, 1).numpy() for c in columns]).save(path)


if __name__ == "__main__":
    main()
