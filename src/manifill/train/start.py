"""How the authors' trainings start: with PyTorch's own start and full averages codebooks collapse to a few codes."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def authors_weights(model: nn.Module, deviation: float | None = None) -> None:
    """Start convolutions as the authors do: truncated normal weights, zero biases.

    `deviation` is 1 / sqrt(numbers that go into an output) unless given; weights beyond two of it do not occur.
    """
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            std = deviation or (m.in_channels * math.prod(m.kernel_size)) ** -0.5
            nn.init.trunc_normal_(m.weight, 0, std, -2 * std, 2 * std)
            assert m.bias is not None
            nn.init.zeros_(m.bias)


def unbiased(decay: float, taken: int) -> float:
    """Return the decay of step `taken`, from 0, of an average that forgets what it started from.

    An average from zero, divided by 1 - decay^(t + 1), is the same as one whose new value weighs (1 - decay) /
    (1 - decay^(t + 1)): all at first. So after the first batch a used code is the mean of its features and an unused
    one zero.
    """
    return 1 - (1 - decay) / (1 - decay ** (taken + 1))
