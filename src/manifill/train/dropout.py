"""Dropout that does not depend on how a batch is divided over devices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from manifill.networks.structure import GatedBlock, StructureGenerator


class Dropout(nn.Module):
    """Dropout whose noise is drawn for the whole batch, so that it does not depend on how the batch is divided."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.start, self.whole = p, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        noise = torch.empty_like(x[:1].expand(self.whole, -1, -1, -1), memory_format=layout)
        noise = noise.bernoulli_(1 - self.p).div_(1 - self.p)
        if self.whole > len(x):
            noise = noise[self.start : self.start + len(x)].clone()  # the backward pass keeps no more than this
        return x * noise


def whole_dropouts(model: StructureGenerator) -> list[Dropout]:
    """Put Dropout in place of the model's dropouts and return them."""
    found = []
    for block in [m for m in model.modules() if isinstance(m, GatedBlock)]:
        found.append(Dropout(block.dropout.p))
        block.dropout = found[-1]  # type: ignore[assignment]
    return found
