"""Stage two in another way, not in the paper: a structure generator that is taught by autoguidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from manifill.data.masks import centre_mask
from manifill.data.pictures import Pictures
from manifill.networks.structure import StructureGenerator, flip_marked
from manifill.networks.texture import hole_cells
from manifill.networks.vqvae import VQVAE
from manifill.train.distill import Teacher, divergence
from manifill.train.distributed import Share
from manifill.train.loop import Metrics, Setup
from manifill.train.structure import StructureStage

COMPARED = 100  # pictures to compare with the teacher on


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
        codes = self.teacher.lesson(codes, share)
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

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return what StructureStage does and `taught`: bits lost a hole's code, in structures that it samples."""
        found, total, count = super().validate(), 0.0, min(COMPARED, len(self.val))
        network = self.averaged.module.eval()
        for numbers, image in self.val.batches(count, 20):
            image, mask = image.to(self.device), centre_mask(image.to(self.device))
            codes, features = self.given(image, mask)
            codes = self.teacher.sampler.codes(image, mask, codes, torch.tensor(numbers, device=self.device))
            nats = self.lost(network, codes, image, mask, features)
            total += float(nats[hole_cells(mask, *nats.shape[1:]).view_as(nats)].mean()) * len(image)
        return found | {"taught": total / count / math.log(2)}
