"""Structure codes read from right to left by the same weights: sampling, and the likelihood of codes that are there.

A PixelCNN that was trained with `StructureConfig.both_directions` reads a map of codes in two orders. Reading 1 is
raster order. In reading -1 every row is read from its right end: the map, `cond` and the known codes are flipped left
to right, and the input's channel of ones is -1 (as in RAR, ICCV 2025, which permutes, and LMConv, UAI 2020). Rows are
read from the top in both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator
from manifill.sampling.naive import Sampled


def mirrored(model: StructureGenerator) -> StructureGenerator:
    """Return a generator that reads flipped maps from left to right as `model` reads maps from right to left.

    -1 in the channel of ones is the same as turning the sign of the weights that read this channel, which three
    convolutions have. All other tensors are shared with `model`. Raises ValueError for a model of one direction.
    """
    if not model.config.both_directions:
        raise ValueError("this structure generator reads from left to right alone: it was not trained both_directions")
    own = {id(conv.weight) for conv in model.pixelcnn.inputs}
    shared = {id(t): t for t in (*model.parameters(), *model.buffers()) if id(t) not in own}
    other = copy.deepcopy(model, shared)
    with torch.no_grad():
        for conv in other.pixelcnn.inputs:
            conv.weight[:, -1].neg_()
    return other


def backwards(sample: Callable[..., Sampled]) -> Callable[..., Sampled]:
    """Turn a sampler of a `mirrored` model into one that reads from right to left.

    Arguments and result are as in `naive.sample_naive` without the model, in the picture's own order. The noise of a
    position belongs to its place in the picture, not to its turn.
    """

    def sample_backwards(
        cond: Tensor,
        noise: Tensor,
        options: SamplingOptions,
        callback: Callable[[int, int], None] | None = None,
        known: Tensor | None = None,
    ) -> Sampled:
        flipped = noise.unflatten(1, cond.shape[-2:]).flip(2).flatten(1, 2)
        found = sample(cond.flip(3), flipped, options, callback, None if known is None else known.flip(2))
        return Sampled(found.codes.flip(2), found.log_likelihood.flip(2))

    return sample_backwards


@torch.no_grad()
def log_likelihood(
    model: StructureGenerator, codebook: Tensor, codes: Tensor, cond: Tensor, reading: int = 1
) -> Tensor:
    """Return the natural log of every code's probability given those read before it (N, h, w), in one pass.

    `codebook` (K, D), `codes` (N, h, w), `cond` (1 or N, 8n, h, w); `reading` 1 or, of a model of both directions, -1.
    """
    structure = F.embedding(codes, codebook).permute(0, 3, 1, 2)
    if reading > 0:
        logits = model.logits(structure, cond)
    else:
        turn = torch.full((len(codes),), -1.0, device=codes.device)
        logits = model.logits(structure.flip(3), cond.flip(3), turn).flip(3)
    return logits.float().log_softmax(1).gather(1, codes[:, None])[:, 0]
