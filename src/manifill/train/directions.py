"""Which pictures of a batch are read from right to left, where a structure generator learns both (not in the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from manifill.train.distributed import Share

BACKWARDS = (0.5, 0.25)  # fraction of pictures read from right to left, until TURN of the steps and at the end
TURN = 0.7


def choose_backwards(share: Share, done: float) -> Tensor:
    """Return which pictures of a share are read from right to left, (n,) bool, when a fraction of the steps is `done`.

    Half of them, and at the end of training a quarter: samples are read from left to right, so the last steps belong
    to that.
    """
    late = min(max(done - TURN, 0.0) / (1 - TURN), 1.0)
    fraction = BACKWARDS[0] + (BACKWARDS[1] - BACKWARDS[0]) * late
    return share.rows(torch.rand(share.whole, device=share.image.device) < fraction)
