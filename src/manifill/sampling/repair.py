"""Repair of sampled structures: one half of the hole is sampled again, in the other direction, given the other half.

A PixelCNN never looks back: what it sampled first knows nothing of what came later, so the left eye of a face does not
answer to the right one. A model of both directions can go on from a finished sample: the right half of the hole's codes
stays, and the left half is sampled from right to left, so that it follows the right half of its own row and all of the
rows above. Then the left half stays, and so on: the steps of a Gibbs sampler over two blocks, but that neither block
sees the rows below.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reading_of(step: int) -> int:
    """Return how step 0, 1, ... reads: from right to left first, since sampling has read from left to right."""
    return -1 if step % 2 == 0 else 1


def clamped(codes: Tensor, hole: Tensor, step: int) -> Tensor:
    """Return the codes that a step keeps, -1 where it samples anew: (N, h, w).

    `codes` (N, h, w) are the samples, `hole` (1 or N, h, w) bool the codes of the hole. Those on the side of its middle
    column that the step's reading comes to last are sampled anew, the middle column itself with either side.
    """
    again = torch.stack([half(part, reading_of(step)) for part in hole])
    return torch.where(again, -1, codes)


def half(hole: Tensor, reading: int) -> Tensor:
    """Return the half of a hole (h, w) that a reading comes to last: that on the left for -1, on the right for 1."""
    columns = hole.nonzero()[:, 1]
    if len(columns) == 0:
        return hole
    middle = columns.double().mean()
    column = torch.arange(hole.shape[1], device=hole.device)
    return hole & (column <= middle if reading < 0 else column >= middle)
