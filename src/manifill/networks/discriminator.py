"""SN-PatchGAN discriminator (section 3.3): scores patches of a picture as real (high) or completed (low).

Spectral normalisation belongs to training (`manifill.train`); a model folder holds W / sigma, a plain convolution.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manifill.config import DiscriminatorConfig
from manifill.networks.layers import SameConv2d


class Discriminator(nn.Module):
    """Convolutions 5x5 of stride 2, LeakyReLU 0.2 after each: (N, 3, H, W) and mask -> (N, 4c, H / 2^layers, ...)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        c = config.width
        widths = [4, c, 2 * c, *([4 * c] * (config.layers - 2))]
        self.convs = nn.ModuleList(SameConv2d(i, o, 5, stride=2) for i, o in pairwise(widths))
        for conv in self.convs:  # with the default start it died against a generator that learns as fast
            nn.init.kaiming_normal_(conv.weight, 0.2)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """`image` (N, 3, H, W) in [-1, 1], real or composed; `mask` (N, 1, H, W), 1 in the hole."""
        # no sigmoid and no mean here: each output judges its own patch, and the hinge loss takes raw scores
        x = torch.cat([image, mask.expand(len(image), -1, -1, -1)], dim=1)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return x
