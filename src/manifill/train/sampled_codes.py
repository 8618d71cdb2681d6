"""Structure codes drawn for the holes of training pictures: what completions will be made of."""

from __future__ import annotations

import torch
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator
from manifill.networks.vqvae import VQVAE, untouched
from manifill.sampling.naive import gumbel_noise
from manifill.sampling.native import fastest

SEEDS = 2**40  # seeds are drawn below it


class CodeSampler:
    """A trained structure generator that draws as completions are drawn, with its own settings or `options`."""

    def __init__(
        self, structure: StructureGenerator, vqvae: VQVAE, device: torch.device, options: SamplingOptions | None = None
    ) -> None:
        self.structure, self.vqvae = structure.eval().requires_grad_(False).to(device), vqvae
        c, codebook = structure.config, vqvae.encoder.structure_quantiser.codebook
        self.options = options or c.sampling
        self.sample = fastest(structure, codebook, device)

    @torch.no_grad()
    def codes(self, image: Tensor, mask: Tensor, truth: Tensor, seeds: Tensor) -> Tensor:
        """Return codes (N, h, w) of pictures (N, 3, H, W): drawn where the hole has changed them, else the `truth`.

        `seeds` (N,) int64 say which: the same picture, mask and seed always give the same codes.
        """
        if not len(image):
            return truth
        with torch.autocast(image.device.type, enabled=False):  # completions draw in float32, whatever training runs in
            return self.drawn(image.float(), mask.float(), truth, seeds)

    def drawn(self, image: Tensor, mask: Tensor, truth: Tensor, seeds: Tensor) -> Tensor:
        """Return what `codes` does, in the precision of the pictures."""
        features = None
        if self.structure.config.condition_features:
            features = self.vqvae.encoder.structure_features(image * (1 - mask))
        cond = self.structure.cond(image, mask, features)
        noise = gumbel_noise(seeds.tolist(), cond.shape[2] * cond.shape[3], self.structure.config.codebook_size)
        known = torch.where(untouched(mask), truth, -1)
        return self.sample(cond, noise.to(cond.device), self.options, None, known).codes
