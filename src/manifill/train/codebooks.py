"""Codebooks that begin with features of the data, and codes that nothing uses: neither is in the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows of all parts, without a copy where there is but one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


@torch.no_grad()
def start_from_data(model: VQVAE, own: Share, processes: Processes) -> None:
    """Take the first codebooks from the features of the first batch, structure before texture.

    What is random is drawn alike by all processes, from features that all of them have.
    """
    encoder = model.encoder
    for level, quantiser in enumerate((encoder.structure_quantiser, encoder.texture_quantiser)):
        features = [model.encode(share.image)[level] for share in own.split(processes.accumulate)]
        reseed(quantiser, processes.gathered(concatenate(features)), torch.ones_like(quantiser.sizes, dtype=torch.bool))


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
