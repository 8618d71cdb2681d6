"""A wider texture generator with the weights of a narrower one: it paints the same, with room to learn more.

Not in the paper. What the old channels compute stays as it was, since they ignore the new ones at first (weights of
zero); the new ones start from random numbers and see everything.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from manifill.config import TextureConfig
from manifill.layers import SameConv2d
from manifill.texture import GatedConv2d, TextureGenerator

JOINED = ("body.0", "merge_quarter.0", "merge_half.0")  # layers that read two sets of features, one behind the other


def fits(old: TextureConfig, wanted: TextureConfig) -> bool:
    """Return whether the generators differ in their width alone, the wanted one is wider, and its scores stay theirs.

    Learned scores are computed from all channels, so they would change.
    """
    stays = wanted.attention == "none" or wanted.scores == "structural"
    return stays and wanted.width > old.width and replace(old, width=wanted.width) == wanted


@torch.no_grad()
def widened(old: TextureGenerator, wanted: TextureConfig) -> TextureGenerator:
    """Return a generator of the width of `wanted` that paints as `old` does, up to rounding."""
    new = TextureGenerator(wanted)
    for name, layer in new.named_modules():
        if isinstance(layer, SameConv2d):
            source = old.get_submodule(name)
            assert isinstance(source, SameConv2d)
            joined = 2 if name in JOINED and (name == JOINED[0] or wanted.attention != "none") else 1
            fill(layer, source, joined)
    return new


def fill(new: SameConv2d, old: SameConv2d, joined: int) -> None:
    """Put the weights of `old` among those of `new`, whose old outputs ignore its new inputs."""
    parts = 2 if isinstance(new, GatedConv2d) else 1  # what is passed on, and its gate
    rows = places(old.out_channels, new.out_channels, parts)
    columns = places(old.in_channels, new.in_channels, joined)
    kept = torch.zeros_like(new.weight[rows])
    kept[:, columns] = old.weight
    new.weight[rows] = kept
    assert new.bias is not None
    assert old.bias is not None
    new.bias[rows] = old.bias


def places(old: int, new: int, parts: int) -> Tensor:
    """Return where the `old` channels lie among the `new`, at the start of each of `parts` equal parts: (old,)."""
    return (torch.arange(parts)[:, None] * (new // parts) + torch.arange(old // parts)).flatten()
