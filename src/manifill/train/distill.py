"""A structure generator guided by a weaker version of itself, and one network distilled from both.

Not in the paper. Where a network spreads its probability too widely, one that was trained for a shorter time, or is
smaller, does so more; going from the weaker one's logits to its own and on in the same direction takes that away, and
leaves what both are sure of (autoguidance: Karras et al. 2024, 2406.02507). Codes that the better one finds implausible
stay out, since that difference says nothing there (contrastive decoding: Li et al. 2022, 2210.15097). Sampling with
both would take twice the time. So the guided distribution is the target of a training, at every position of true and of
sampled structures, and what it leaves is a structure generator like any other.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.train.distributed import Share
from manifill.train.sampled_codes import SEEDS, CodeSampler

SAMPLED = 0.5  # fraction of pictures whose structure is a sampled one
PLAUSIBLE = 0.01  # of the likeliest code's probability, which others must reach to be sampled


class Teacher:
    """A frozen copy of `strong` guided by `weak`, both structure generators of the same codes, with a weight."""

    def __init__(
        self, strong: StructureGenerator, weak: StructureGenerator, vqvae: VQVAE, device: torch.device, weight: float
    ) -> None:
        # it samples from its own distribution, whatever settings the model has
        self.sampler = CodeSampler(copy.deepcopy(strong), vqvae, device, SamplingOptions())
        self.strong, self.weak = self.sampler.structure, weak.eval().requires_grad_(False).to(device)
        self.weight = weight

    def lesson(self, truth: Tensor, share: Share) -> Tensor:
        """Return codes (n, h, w) to teach at: a share's true ones or, for SAMPLED of its pictures, sampled ones.

        The choice is made for the whole batch, so that it does not depend on how the batch is divided.
        """
        sampled = share.rows(torch.rand(share.whole, device=truth.device) < SAMPLED)
        seeds = share.rows(torch.randint(SEEDS, (share.whole,), device=truth.device))
        given = (share.image, share.mask, truth, seeds)
        return truth.index_copy(0, sampled.nonzero()[:, 0], self.sampler.codes(*(x[sampled] for x in given)))

    @torch.no_grad()
    def logits(
        self, structure: Tensor, image: Tensor, mask: Tensor, features: Tensor | None, backwards: Tensor | None = None
    ) -> Tensor:
        """Return guided logits (N, K, h, w), -inf where implausible; arguments as for StructureGenerator."""
        strong, weak = (
            m(structure, image, mask, features if m.config.condition_features else None, backwards).float()
            for m in (self.strong, self.weak)
        )
        plausible = strong >= strong.amax(1, keepdim=True) + math.log(PLAUSIBLE)
        return ((1 + self.weight) * strong - self.weight * weak).masked_fill(~plausible, -torch.inf)


def divergence(teacher: Tensor, logits: Tensor) -> Tensor:
    """Return what `logits` lose where `teacher` ones (N, K, h, w) are wanted: KL divergences in nats (N, h, w)."""
    wanted = teacher.softmax(1)
    return -(torch.special.entr(wanted) + wanted * logits.float().log_softmax(1)).sum(1)
