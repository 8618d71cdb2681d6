"""A structure generator guided by a weaker version of itself, and one network distilled from both: stage two anew.

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
from torch import Tensor, nn

from manifill.config import SamplingOptions
from manifill.data.pictures import Pictures
from manifill.networks.structure import StructureGenerator, flip_marked
from manifill.networks.vqvae import VQVAE
from manifill.train.distributed import Share
from manifill.train.loop import Metrics, Setup
from manifill.train.measure import structure_metrics
from manifill.train.sampled_codes import CodeSampler, resample
from manifill.train.structure import StructureStage

SAMPLED = 0.5  # fraction of pictures whose structure is a sampled one
PLAUSIBLE = 0.01  # of the likeliest code's probability, which others must reach to be sampled
COMPARED = 100  # pictures to compare with the teacher on


class Teacher:
    """A frozen copy of `strong` guided by `weak`, both structure generators of the same codes, with a weight."""

    def __init__(
        self, strong: StructureGenerator, weak: StructureGenerator, vqvae: VQVAE, device: torch.device, weight: float
    ) -> None:
        # it samples from its own distribution, whatever settings the model has
        self.sampler = CodeSampler(copy.deepcopy(strong), vqvae, device, SamplingOptions())
        self.strong, self.weak = self.sampler.structure, weak.eval().requires_grad_(False).to(device)
        self.weight = weight

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


class TaughtStage(StructureStage):
    """Learns the distribution of `start` guided by `weaker`, without dropout; keeps the averages nearest to it.

    Raises ValueError where `weaker` is conditioned by more than `start` is, or reads in fewer directions.
    """

    kept_by = "taught"

    def __init__(
        self,
        setup: Setup,
        vqvae: VQVAE,
        start: StructureGenerator,
        weaker: StructureGenerator,
        seen: Pictures | None = None,
    ) -> None:
        if weaker.config.condition_features and not start.config.condition_features:
            raise ValueError("the weaker model has condition_features, and the one that it is to guide has not")
        if start.config.both_directions and not weaker.config.both_directions:
            raise ValueError("the weaker model reads from left to right alone, the one that it is to guide does not")
        self.teacher = Teacher(start, weaker, vqvae, setup.device, setup.preset.structure.autoguidance)
        super().__init__(setup, vqvae, start, seen)
        for dropout in self.dropouts:
            dropout.p = 0.0  # what it is taught has no noise

    def _learn(self, share: Share) -> Metrics:
        """Add the gradients of a share; return the bits that are lost to the teacher."""
        found = super()._learn(share)
        return {"taught": found["bits_hole"], "taught_known": found["bits_known"]}

    def nats(self, share: Share, backwards: Tensor | None) -> Tensor:
        """Return the divergence from the teacher at every position of a share (n, h, w)."""
        codes, features = self.given(share.image, share.mask)
        codes, _ = resample(codes, codes, share, SAMPLED, self.teacher.sampler)
        return self.lost(self.network, codes, share.image, share.mask, features, backwards)

    def lost(
        self,
        network: nn.Module,
        codes: Tensor,
        image: Tensor,
        mask: Tensor,
        features: Tensor | None,
        backwards: Tensor | None = None,
    ) -> Tensor:
        """Return the divergence from the teacher at every position of codes (N, h, w), in nats (N, h, w).

        Pictures that `backwards` (N,) marks are read from right to left, by the teacher as well.
        """
        structure = self.vqvae.lookup(flip_marked(codes, backwards))
        wanted = self.teacher.logits(structure, image, mask, features, backwards)
        return flip_marked(divergence(wanted, network(structure, image, mask, features, backwards)), backwards)

    def validate(self) -> Metrics:
        """Return what StructureStage does and `taught`: bits lost a hole's code, in structures that it samples."""
        network = self.averaged.module.eval()

        def lost(image: Tensor, mask: Tensor) -> Tensor:
            codes, features = self.given(image, mask)
            seeds = torch.arange(len(image), device=self.device)
            codes = self.teacher.sampler.codes(image, mask, codes, seeds)
            return self.lost(network, codes, image, mask, features)

        taught = structure_metrics(lost, self.val, self.device, COMPARED)["bits_hole"]
        return super().validate() | {"taught": taught}
