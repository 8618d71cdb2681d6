"""The likelihood of structure codes that are there, read from left to right or from right to left.

A PixelCNN that was trained with `StructureConfig.both_directions` reads a map of codes in two orders. Reading 1 is
raster order. In reading -1 every row is read from its right end: the map and `cond` are flipped left to right, and the
input's channel of ones is -1 (as in RAR, ICCV 2025, which permutes, and LMConv, UAI 2020). Rows are read from the top
in both. Not in the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.networks.structure import StructureGenerator


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
