"""Texture generator with structural attention (section 3.3): masked picture and structure -> completed picture.

A gated U-shaped network paints the hole. The structure tells it what belongs there; structural attention tells it from
where in the picture to copy what that looks like. For all pairs of the h*w structure cells x (query) and y (key), with
P(x) the 3x3 patch of structure features around x:

    d(x, y) = ||P(x) - P(y)||^2                                        Eq. 5, squared as in the released models
    s(x, y) = tanh(-(d(x, y) - mean_y d(x, y)) / std_y d(x, y))        Eq. 6, in (-1, 1), high for the near
    a(x, y) = exp(50 s(x, y)) / sum_y exp(50 s(x, y))                  Eq. 7
    p_att(x) = sum_y a(x, y) p(y)                                      p: the features' patch in a cell

The standardisation makes rows comparable: what counts is how near a key is for this query. The factor 50 makes a nearly
a choice, so that patches are copied, not averaged. The scores come from the structure, which covers the hole as it
covers the rest; those of learned features instead are a row of Table 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manifill.config import TextureConfig
from manifill.networks.layers import SameConv2d, halves, upsample, with_mask


class GatedConv2d(SameConv2d):
    """GC(o): a SAME convolution to o channels, then elu(a) * sigmoid(b) of its halves: o/2 channels."""

    def reset_parameters(self) -> None:
        """Start with weights that keep the signal's size: the gate halves it, and fifteen of them stand in a row."""
        nn.init.normal_(self.weight, std=2 / math.sqrt(self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or self.bias is None:
            a, b = halves(super().forward(input))
            return F.elu(a) * torch.sigmoid(b)
        parts = zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
        a, b = (self.convolve(input, *part) for part in parts)  # as fast, and whole tensors can be changed in place
        return F.elu(a, inplace=True).mul_(b.sigmoid_())


class GatedUp(GatedConv2d):
    """GU(o): nearest upsampling by 2, then GC(o)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(upsample(input))


def similarity(distances: Tensor, scale: float = 1.0) -> Tensor:
    """Return -tanh of the distances, standardised over the last axis, times `scale` (Eq. 6): the near get the most."""
    # a layer norm without weights is (d - mean) / std over the last axis; tanh is odd, so the minus may come last
    return torch.tanh(F.layer_norm(distances, distances.shape[-1:], eps=1e-12)) * -scale


def diagonal_sums(s: Tensor) -> Tensor:
    """Add to every score its two diagonal neighbours: a 3x3 identity-matrix convolution of (N, L, L)."""
    total = s.clone()
    total[:, 1:, 1:] += s[:, :-1, :-1]
    total[:, :-1, :-1] += s[:, 1:, 1:]
    return total


def fuse_scores(s: Tensor, h: int, w: int) -> Tensor:
    """Let neighbouring cells agree, along rows, then along columns: (N, h*w, h*w) -> the same.

    Where x matches y, the cell right of x should match the cell right of y (contextual attention, Yu et al. 2018). Not
    in the paper's equations, but in its released models.
    """
    n, length, _ = s.shape
    # cells numbered along rows, then, with both pairs of axes exchanged, along columns, and back
    s = diagonal_sums(s).view(n, h, w, h, w).permute(0, 2, 1, 4, 3).reshape(n, length, length)
    return diagonal_sums(s).view(n, w, h, w, h).permute(0, 2, 1, 4, 3).reshape(n, length, length)


def cell_scores(cells: Tensor, fuse: bool) -> Tensor:
    """Return the scores of all pairs of cells from squared distances of their 3x3 patches (Eq. 5-6).

    (N, D, h, w) -> (N, h*w, h*w), rows are queries. Computed in float32.
    """
    h, w = cells.shape[-2:]
    with torch.autocast(cells.device.type, enabled=False):
        patches = F.unfold(cells.float(), 3, padding=1).transpose(1, 2)  # (N, h*w, 9D)
        square = (patches**2).sum(2)
        # Eq. 5: ||a||^2 + ||b||^2 - 2 a.b for all pairs, (N, h*w, h*w)
        distances = square[:, :, None] + square[:, None, :] - 2 * patches @ patches.transpose(1, 2)
        scores = similarity(distances)  # Eq. 6
        return fuse_scores(scores, h, w) if fuse else scores


def hole_cells(mask: Tensor, h: int, w: int) -> Tensor:
    """Shrink a mask to the cell grid, a cell being hole when any pixel is: (N, 1, H, W) -> (N, h*w) bool."""
    return F.adaptive_max_pool2d(mask, (h, w)).flatten(1) > 0


def compose(painted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Return `painted` in the hole, where `mask` (N, 1, H, W) is 1, and `image` outside: (N, 3, H, W)."""
    return painted * mask + image * (1 - mask)


class StructuralAttention(nn.Module):
    """Attention weights from the structure, and the transfer of patches by them (Eq. 5-7)."""

    def __init__(self, c: TextureConfig) -> None:
        super().__init__()
        self.mode, self.source, self.fuse = c.attention, c.scores, c.fuse

    def weights(self, structure: Tensor, p2: Tensor, mask: Tensor) -> Tensor:
        """Return attention weights (N, h*w, h*w), rows sum to one; softmax with scale 50 (Eq. 7)."""
        h, w = structure.shape[-2:]
        cells = structure if self.source == "structural" else F.adaptive_avg_pool2d(p2, (h, w))
        logits = 50 * cell_scores(cells, self.fuse)
        if self.mode == "full":  # the paper's: every cell may copy from every other, painted ones included
            return logits.softmax(2)  # Eq. 7
        # "cross" of Table 2: only hole cells query and only known ones are keys; the others stay as they are
        hole = hole_cells(mask, h, w).expand(len(logits), -1)
        keys = ~hole | hole.all(1, keepdim=True)  # with nothing known, every cell is a key
        weights = logits.masked_fill(~keys[:, None, :], -torch.inf).softmax(2)
        return torch.where(hole[:, :, None], weights, torch.eye(h * w, device=weights.device))

    @staticmethod
    def transfer(weights: Tensor, features: Tensor, cells: tuple[int, int]) -> Tensor:
        """Replace every cell's patch by the weighted sum of all patches: (N, C, H', W') -> the same."""
        (h, w), n, c = cells, len(weights), features.shape[1]
        # one patch a structure cell: 4x4 of `p1` at H/2, 2x2 of `p2` at H/4
        split = features.permute(0, 2, 3, 1).unflatten(2, (w, -1)).unflatten(1, (h, -1))  # (N, h, size, w, size, C)
        patches = split.transpose(2, 3).reshape(len(features), h * w, -1)
        # the sum of the last line above; what is known of the picture is known once for all N structures
        mixed = weights.to(patches.dtype) @ patches.expand(n, -1, -1)
        joined = mixed.view(n, h, w, features.shape[2] // h, -1, c).transpose(2, 3)
        return joined.reshape(n, *features.shape[2:], c).permute(0, 3, 1, 2)


class TextureGenerator(nn.Module):
    """Masked picture, mask and structure features -> picture (N, 3, H, W) in (-1, 1)."""

    def __init__(self, config: TextureConfig) -> None:
        super().__init__()
        self.config = config
        c, d = config.width, config.codebook_dim
        self.image_half = nn.Sequential(
            GatedConv2d(5, c, 5), GatedConv2d(c // 2, 2 * c, 3, stride=2), GatedConv2d(c, 2 * c, 3)
        )
        self.image_quarter = GatedConv2d(c, 4 * c, 3, stride=2)
        self.structure_branch = nn.Sequential(
            GatedConv2d(d, 4 * c, 3), GatedConv2d(2 * c, 4 * c, 3), GatedUp(2 * c, 4 * c, 3)
        )
        self.body = nn.Sequential(
            GatedConv2d(4 * c, 4 * c, 3),
            GatedConv2d(2 * c, 4 * c, 3),
            *(GatedConv2d(2 * c, 4 * c, 3, dilation=k) for k in (2, 4, 8, 16)),
        )
        self.attention = StructuralAttention(config)
        second = 0 if config.attention == "none" else 1
        self.refine = nn.Sequential(GatedConv2d(2 * c, 4 * c, 3), GatedConv2d(2 * c, 4 * c, 3))
        self.merge_quarter = nn.Sequential(GatedConv2d((2 + 2 * second) * c, 4 * c, 3), GatedUp(2 * c, 2 * c, 3))
        self.merge_half = nn.Sequential(
            GatedConv2d((1 + second) * c, 2 * c, 3),
            GatedUp(c, c, 3),
            GatedConv2d(c // 2, c, 3),
            SameConv2d(c // 2, 3, 3),
        )

    def image_features(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the masked picture at H/2 (`p1`) and H/4: once a picture, whatever the samples."""
        p1 = self.image_half(with_mask(image, mask))  # (N, c, H/2, W/2)
        return p1, self.image_quarter(p1)

    def paint(self, p1: Tensor, quarter: Tensor, structure: Tensor, mask: Tensor) -> Tensor:
        """Return pictures (N, 3, H, W) for N structures (N, D, H/8, W/8), from the features of 1 or N pictures."""
        n, cells = len(structure), (structure.shape[-2], structure.shape[-1])
        branch = self.structure_branch(structure.to(quarter.dtype))  # (N, 2c, H/4, W/4)
        # dilations 2 to 16 at H/4: what is painted in a hole's middle has seen beyond its border
        p2 = self.body(torch.cat([quarter.expand(n, -1, -1, -1), branch], dim=1))
        x, at_quarter, at_half = self.refine(p2), [], []
        if self.config.attention != "none":
            weights = self.attention.weights(structure, p2, mask)
            at_quarter = [self.attention.transfer(weights, p2, cells)]
            at_half = [self.attention.transfer(weights, p1, cells)]
        # coarse, then fine: the attended features come in where the decoder has their size
        x = self.merge_quarter(torch.cat([x, *at_quarter], dim=1))  # (N, c, H/2, W/2)
        return torch.tanh(self.merge_half(torch.cat([x, *at_half], dim=1)))

    def forward(self, image: Tensor, mask: Tensor, structure: Tensor) -> Tensor:
        """`image` (N, 3, H, W) in [-1, 1], `mask` (N, 1, H, W) 1 in the hole, `structure` (N, D, H/8, W/8)."""
        return self.paint(*self.image_features(image, mask), structure, mask)
