"""How a VQ-VAE starts: as the authors' trainings do, or with codebooks of the data; and codes that nothing uses.

With PyTorch's own start and full averages the paper's codebooks collapse to a few codes. Features of the data, and
places for unused codes, are not in the paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from manifill.networks.vqvae import VQVAE, Quantiser
from manifill.train.config import VQVAETraining
from manifill.train.distributed import Processes, Share

REVIVE_EVERY = 50  # steps
DEAD = 0.02  # a code used less than this fraction of an even use is dead


def first_codebooks(options: VQVAETraining) -> str:
    """Return how a new VQ-VAE starts: paper or data."""
    if options.codebook_init == "auto":
        return "data" if options.revive else "paper"
    return options.codebook_init


@torch.no_grad()
def authors_weights(model: nn.Module) -> None:
    """Start convolutions as the authors do: zero biases, and normal weights without those beyond two deviations.

    A deviation is 1 / sqrt(numbers that go into an output).
    """
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            std = (m.in_channels * math.prod(m.kernel_size)) ** -0.5
            nn.init.trunc_normal_(m.weight, 0, std, -2 * std, 2 * std)
            assert m.bias is not None
            nn.init.zeros_(m.bias)


def unbiased(decay: float, taken: int) -> float:
    """Return the decay of step `taken`, from 0, of an average that forgets what it started from.

    An average from zero, divided by 1 - decay^(t + 1), is the same as one whose new value weighs (1 - decay) /
    (1 - decay^(t + 1)): all at first. So after the first batch a used code is the mean of its features and an unused
    one zero.
    """
    return 1 - (1 - decay) / (1 - decay ** (taken + 1))


@torch.no_grad()
def start_from_data(model: VQVAE, own: Share, processes: Processes) -> None:
    """Take the first codebooks from the features of the first batch, structure before texture.

    What is random is drawn alike by all processes, from features that all of them have.
    """
    encoder = model.encoder
    for level, quantiser in enumerate((encoder.structure_quantiser, encoder.texture_quantiser)):
        features = [model.encode(share.image)[level] for share in own.split(processes.accumulate)]
        reseed(quantiser, processes.gathered(torch.cat(features)), torch.ones_like(quantiser.sizes, dtype=torch.bool))


def revive(quantiser: Quantiser, features: Tensor, taken: int, processes: Processes) -> None:
    """Give dead codes the places of random features (N, D, h, w), every REVIVE_EVERY steps."""
    if taken % REVIVE_EVERY == REVIVE_EVERY - 1:
        reseed(quantiser, processes.gathered(features), quantiser.sizes < DEAD * quantiser.sizes.mean())


@torch.no_grad()
def reseed(quantiser: Quantiser, features: Tensor, where: Tensor) -> int:
    """Replace the codes marked in `where` (K, bool) by random features of the batch; return how many."""
    flat, dead = quantiser.flatten(features), where.nonzero().flatten()
    dead = dead[: len(flat)]
    if len(dead) == 0:
        return 0
    chosen = flat[torch.randperm(len(flat), device=flat.device)[: len(dead)]]
    size = quantiser.sizes.sum().clamp(min=1) / len(quantiser.sizes)  # as if all were used evenly
    quantiser.codebook[dead], quantiser.sizes[dead], quantiser.sums[dead] = chosen, size, chosen * size
    return len(dead)
