"""What a VQ-VAE is worth on pictures: how well it reconstructs them, what each level carries, which codes it uses."""

from __future__ import annotations

import torch
from torch import Tensor

from manifill.data.pictures import Pictures
from manifill.networks.vqvae import VQVAE
from manifill.train.loop import Metrics


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
    for start in range(0, count, batch):
        image = pictures.tensor(range(start, min(start + batch, count))).to(device)
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
