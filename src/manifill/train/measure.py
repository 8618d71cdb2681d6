"""What networks are worth on held-out pictures: a VQ-VAE, level by level, a structure and a texture generator."""

from __future__ import annotations

import math
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
def vqvae_metrics(model: VQVAE, pictures: Pictures, device: torch.device, limit: int = 500, batch: int = 25) -> Metrics:
    """Return mean PSNR (dB), codes used and perplexity.

    PSNR is that of the reconstruction, of structure and texture alone, of the mean colour, and of the reconstruction
    with the structure codes of another picture: what the decoder loses with them is what they carry.
    """
    names = ("psnr", "psnr_structure", "psnr_texture", "psnr_mean_colour", "psnr_swapped")
    sums, count = dict.fromkeys(names, 0.0), min(limit, len(pictures))
    histograms = [torch.zeros(model.config.codebook_size), torch.zeros(model.config.codebook_size)]
    for _, image in pictures.batches(count, batch):
        image = image.to(device)
        e = model.encode(image)
        shown = (
            model.decode(e.structure, e.texture),
            model.decode_structure(e.structure),
            model.decode_texture(e.texture),
            image.mean((2, 3), keepdim=True),
            model.decode(e.structure.roll(1, 0), e.texture),
        )
        for name, x in zip(names, shown, strict=True):
            sums[name] += float(decibels(((x.clamp(-1, 1) - image) ** 2).mean((1, 2, 3))).sum())
        for histogram, codes in zip(histograms, (e.structure_codes, e.texture_codes), strict=True):
            histogram += torch.bincount(codes.flatten().cpu(), minlength=len(histogram))
    result: Metrics = {name: total / count for name, total in sums.items()}
    for name, histogram in zip(("structure", "texture"), histograms, strict=True):
        share = histogram / histogram.sum()
        result[f"{name}_codes_used"] = int((histogram > 0).sum())
        result[f"{name}_perplexity"] = float(torch.exp(torch.special.entr(share).sum()))
    return result


def bits(nats: Tensor, hole: Tensor) -> Metrics:
    """Return bits over all codes, inside the hole and outside of it: each their sum and the number of codes (2,)."""
    nats = nats / math.log(2)
    places = {"bits": torch.ones_like(hole), "bits_hole": hole, "bits_known": ~hole}
    return {key: torch.stack([(nats * place).sum(), place.sum().float()]) for key, place in places.items()}


@torch.no_grad()
def structure_metrics(
    nats: Callable[[Tensor, Tensor], Tensor], pictures: Pictures, device: torch.device, limit: int
) -> Metrics:
    """Return bits a code, as `bits` has them, over pictures with centre holes.

    `nats` gives what each code of pictures (N, 3, H, W) with masks (N, 1, H, W) costs: (N, h, w).
    """
    sums, count = {"bits": 0.0, "bits_hole": 0.0, "bits_known": 0.0}, min(limit, len(pictures))
    for _, image in pictures.batches(count, 20):
        image = image.to(device)
        mask = centre_mask(image)
        found = nats(image, mask)
        for key, (total, codes) in bits(found, hole_cells(mask, *found.shape[1:]).view_as(found)).items():
            sums[key] += float(total / codes.clamp_min(1)) * len(image)
    return {key: value / count for key, value in sums.items()}


@torch.no_grad()
def texture_metrics(painter: nn.Module, vqvae: VQVAE, pictures: Pictures, device: torch.device) -> Metrics:
    """Return means over composites with centre holes and true structure codes: PSNR (dB), L1 and feature losses."""
    count, sums = min(VALIDATED, len(pictures)), dict.fromkeys(("psnr", "l1_hole", "structural", "textural"), 0.0)
    for _, image in pictures.batches(count, 20):
        image = image.to(device)
        mask, truth = centre_mask(image), vqvae.encode(image)
        composed = compose(painter(image, mask, truth.structure), image, mask)
        structural, textural = feature_losses(vqvae, composed, truth)
        error = (composed - image) ** 2
        values = (
            decibels(error.mean((1, 2, 3))).mean(),
            (composed - image).abs().mean() / mask.mean(),
            structural,
            textural,
        )
        for key, value in zip(sums, values, strict=True):
            sums[key] += float(value) * len(image)
    return {key: value / count for key, value in sums.items()}
