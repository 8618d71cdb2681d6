"""Structure codes for the texture generator's training other than the true ones; none of it is in the paper.

A completion is painted from sampled codes, which fit each other less well than true ones. A texture generator that has
seen true codes alone paints their faults. So a fraction of them is replaced by near ones, or those of whole holes by
codes that the structure generator samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.precision import exact_float32
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import hole_cells
from manifill.networks.vqvae import VQVAE, Encoding, untouched
from manifill.sampling.naive import gumbel_noise
from manifill.sampling.native import fastest
from manifill.train.distributed import Share
from manifill.train.losses import UNKNOWN

SEEDS = 2**40  # seeds are below it
NEIGHBOURS = 8  # nearest prototypes that a perturbed code may become


class CodeSampler:
    """A trained structure generator that samples as for completions, with its own options or `options`."""

    def __init__(
        self, structure: StructureGenerator, vqvae: VQVAE, device: torch.device, options: SamplingOptions | None = None
    ) -> None:
        self.structure, self.vqvae = structure.eval().requires_grad_(False).to(device), vqvae
        self.options = options or structure.config.sampling
        self.sample = fastest(structure, vqvae.encoder.structure_quantiser.codebook, device)

    @exact_float32
    @torch.no_grad()
    def codes(self, image: Tensor, mask: Tensor, truth: Tensor, seeds: Tensor) -> Tensor:
        """Return codes (N, h, w) of pictures (N, 3, H, W): sampled where the hole has changed them, else the `truth`.

        `seeds` (N,) int64 say which: the same picture, mask and seed always give the same codes.
        """
        if not len(image):
            return truth
        with torch.autocast(image.device.type, enabled=False):  # completions are sampled in float32, whatever runs here
            image, mask, features = image.float(), mask.float(), None
            if self.structure.config.condition_features:
                features = self.vqvae.encoder.structure_features(image * (1 - mask))
            cond = self.structure.condition(image, mask, features)
            known = torch.where(untouched(mask), truth, -1)
            wanted = known.lt(0).any(0).flatten().cpu().numpy()
            noise = gumbel_noise(seeds.tolist(), len(wanted), self.structure.config.codebook_size, wanted)
            return self.sample(cond, noise.to(cond.device), self.options, known).codes


def neighbours(codebook: Tensor) -> Tensor:
    """Return the nearest other codes of every code: (K, D) -> (K, NEIGHBOURS) int64."""
    return torch.cdist(codebook, codebook).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]


def perturb(codes: Tensor, share: Share, fraction: float, near: Tensor) -> Tensor:
    """Replace a fraction of the hole's codes (n, h, w) of a share by near ones, of which `near` (K, NEIGHBOURS) holds.

    The choice is made for the whole batch, so that it does not depend on how the batch is divided.
    """
    if fraction == 0:
        return codes
    shape = (share.whole, *codes.shape[1:])
    chosen = share.rows(torch.rand(shape, device=codes.device)) < fraction
    chosen &= hole_cells(share.mask, *codes.shape[1:]).view_as(codes)
    pick = share.rows(torch.randint(NEIGHBOURS, shape, device=codes.device))
    return torch.where(chosen, near[codes, pick], codes)


def resample(
    codes: Tensor, truth: Tensor, share: Share, fraction: float, sampler: CodeSampler | None
) -> tuple[Tensor, Tensor]:
    """Return codes (n, h, w), those in the hole sampled for a fraction of the pictures, and which pictures (n,) bool.

    `truth` (n, h, w) are the true codes. As `perturb`, it chooses for the whole batch.
    """
    if sampler is None:
        return codes, torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    sampled = share.rows(torch.rand(share.whole, device=codes.device) < fraction)
    seeds = share.rows(torch.randint(SEEDS, (share.whole,), device=codes.device))
    found = sampler.codes(*(x[sampled] for x in (share.image, share.mask, truth, seeds)))
    return codes.index_copy(0, sampled.nonzero()[:, 0], found), sampled


def targets(share: Share, truth: Encoding, codes: Tensor, sampled: Tensor, painted: Tensor) -> tuple[Tensor, Encoding]:
    """Return the pictures (n, 3, H, W) and codes to aim at: a share's own and `truth`.

    Nothing says what belongs into a hole whose structure is another: for `sampled` (n,) pictures that is what was
    `painted` there, their `codes`, and no texture codes.
    """
    image, mask, rows = share.image, share.mask, sampled[:, None, None]
    hole = hole_cells(mask, *truth.texture_codes.shape[1:]).view_as(truth.texture_codes)
    wanted = torch.where((mask > 0) & rows[..., None], painted.detach().to(image.dtype), image)
    return wanted, truth._replace(
        structure_codes=torch.where(rows, codes, truth.structure_codes),
        texture_codes=torch.where(rows & hole, UNKNOWN, truth.texture_codes),
    )
