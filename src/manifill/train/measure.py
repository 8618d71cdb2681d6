"""What networks are worth on held-out pictures: a VQ-VAE, level by level, a structure and a texture generator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from manifill.data.masks import centre_mask
from manifill.data.pictures import Pictures
from manifill.networks.texture import compose, hole_cells
from manifill.networks.vqvae import VQVAE
from manifill.train.loop import Metrics
from manifill.train.losses import feature_losses

VALIDATED = 100  # pictures


def decibels(squared_error: Tensor) -> Tensor:
    """Return decibels for a mean squared error between images in [-1, 1]."""
    return 10 * torch.log10(4 / squared_error)


@torch.no_grad()
def means(
    pictures: Pictures, limit: int, batch: int, device: torch.device, sums: Callable[[Tensor], dict[str, float]]
) -> Metrics:
    """Return the means over at most `limit` pictures of figures that `sums` adds up over a batch (N, 3, H, W)."""
    total, count = Counter[str](), min(limit, len(pictures))
    for _, image in pictures.batches(count, batch):
        total.update(sums(image.to(device)))  # type: ignore[arg-type]  # a Counter adds any numbers
    return {key: value / count for key, value in total.items()}


def vqvae_metrics(model: VQVAE, pictures: Pictures, device: torch.device, limit: int = 500) -> Metrics:
    """Return mean PSNR (dB), codes used and perplexity.

    PSNR is that of the reconstruction, of structure and texture alone, of the mean colour, and of the reconstruction
    with the structure codes of another picture: what the decoder loses with them is what they carry.
    """
    histograms = {level: torch.zeros(model.config.codebook_size) for level in ("structure", "texture")}

    def sums(image: Tensor) -> dict[str, float]:
        e = model.encode(image)
        shown = {
            "psnr": model.decode(e.structure, e.texture),
            "psnr_structure": model.decode_structure(e.structure),
            "psnr_texture": model.decode_texture(e.texture),
            "psnr_mean_colour": image.mean((2, 3), keepdim=True),
            "psnr_swapped": model.decode(e.structure.roll(1, 0), e.texture),
        }
        for histogram, codes in zip(histograms.values(), (e.structure_codes, e.texture_codes), strict=True):
            histogram += torch.bincount(codes.flatten().cpu(), minlength=len(histogram))
        errors = {name: ((x.clamp(-1, 1) - image) ** 2).mean((1, 2, 3)) for name, x in shown.items()}
        return {name: float(decibels(error).sum()) for name, error in errors.items()}

    result = means(pictures, limit, 25, device, sums)
    for name, histogram in histograms.items():
        result[f"{name}_codes_used"] = int((histogram > 0).sum())
        result[f"{name}_perplexity"] = float(torch.exp(torch.special.entr(histogram / histogram.sum()).sum()))
    return result


def bits(nats: Tensor, hole: Tensor) -> Metrics:
    """Return bits over all codes, inside the hole and outside of it: each their sum and the number of codes (2,)."""
    nats = nats / math.log(2)
    places = {"bits": torch.ones_like(hole), "bits_hole": hole, "bits_known": ~hole}
    return {key: torch.stack([(nats * place).sum(), place.sum().float()]) for key, place in places.items()}


def structure_metrics(
    nats: Callable[[Tensor, Tensor], Tensor], pictures: Pictures, device: torch.device, limit: int
) -> Metrics:
    """Return bits a code, as `bits` has them, over pictures with centre holes.

    `nats` gives what each code of pictures (N, 3, H, W) with masks (N, 1, H, W) costs: (N, h, w).
    """

    def sums(image: Tensor) -> dict[str, float]:
        mask = centre_mask(image)
        found = nats(image, mask)
        parts = bits(found, hole_cells(mask, *found.shape[1:]).view_as(found))
        return {key: float(total / codes.clamp_min(1)) * len(image) for key, (total, codes) in parts.items()}

    return means(pictures, limit, 20, device, sums)


def texture_metrics(painter: nn.Module, vqvae: VQVAE, pictures: Pictures, device: torch.device) -> Metrics:
    """Return means over composites with centre holes and true structure codes: PSNR (dB), L1 and feature losses."""

    def sums(image: Tensor) -> dict[str, float]:
        mask, truth = centre_mask(image), vqvae.encode(image)
        composed = compose(painter(image, mask, truth.structure), image, mask)
        structural, textural = feature_losses(vqvae, composed, truth)
        values = {
            "psnr": decibels(((composed - image) ** 2).mean((1, 2, 3))).mean(),
            "l1_hole": (composed - image).abs().mean() / mask.mean(),
            "structural": structural,
            "textural": textural,
        }
        return {key: float(value) * len(image) for key, value in values.items()}

    return means(pictures, VALIDATED, 20, device, sums)
