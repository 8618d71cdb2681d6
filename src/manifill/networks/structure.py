"""Diverse structure generator (section 3.2): condition network and PixelCNN.

The probability of a map of structure codes is a product (Eq. 4): each code's given all before it, row by row, and given
what is known of the picture. One pass of the PixelCNN gives all factors of a map that is there; a new map is sampled
code by code. Lineage: PixelCNN++ (Salimans et al. 2017), whose gated blocks and two streams these are; PixelSNAIL (Chen
et al. 2018), whose causal attention every few layers sees all codes before; and the condition, which is new here.

Two streams, so that no code before is hidden from a position and none after is seen. With `x` the position, `u` what
the stream u sees and `l` what only ul sees, through all layers, attention aside:

    u u u u u      u  ("up") has convolutions of two rows and three columns. Its input is moved down by one row, so at
    u u u u u         row i it sees the rows above i, one further up and one column further to each side with every
    u u u u u         convolution, and nothing of row i itself.
    l l x . .      ul ("up-left") has convolutions of two rows that reach to the left alone, and is given u in every
    . . . . .         layer: it adds the codes to the left of x. Its output predicts the code at x.

A single stream of masked 3x3 convolutions would have a blind spot: it can go one column to the right only by going one
row up, so what lies just above and far to the right never reaches x.

Every convolution here is weight-normalised in training (`manifill.train`); what a model folder holds, and what this
file computes with, is the product W = g V / ||V||, a plain convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manifill.config import StructureConfig
from manifill.networks.layers import SameConv2d, halves, with_mask


def concat_elu(x: Tensor, dim: int = 1) -> Tensor:
    """Return elu(cat[x, -x]): twice the channels, as no sign is lost (the concatenated ReLU of PixelCNN++)."""
    return F.elu(torch.cat([x, -x], dim=dim), inplace=True)


def gate(x: Tensor, dim: int = 1) -> Tensor:
    """Split the channels in two halves and return a * sigmoid(b)."""
    a, b = x.chunk(2, dim=dim)
    return a * torch.sigmoid(b)


class GatedResidual(nn.Module):
    """G(ch, dilation) of the condition network: two 3x3 convolutions, the first dilated, and a gate."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = SameConv2d(2 * width, width, 3, dilation=dilation)
        self.conv2 = SameConv2d(2 * width, 2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = halves(self.conv2(concat_elu(self.conv1(concat_elu(x)))))
        return x + a * torch.sigmoid(b)


class ConditionNetwork(nn.Module):
    """Masked picture and mask -> `cond` (N, 8n, H/8, W/8), n = condition_width."""

    def __init__(self, c: StructureConfig) -> None:
        super().__init__()
        n = c.condition_width
        self.down = nn.Sequential(
            SameConv2d(5, n, 5),
            GatedResidual(n),
            SameConv2d(n, 2 * n, 3, stride=2),
            GatedResidual(2 * n),
            SameConv2d(2 * n, 4 * n, 3, stride=2),
            GatedResidual(4 * n),
            SameConv2d(4 * n, 8 * n, 3, stride=2),
        )
        # not in the paper: what the VQ encoder makes of the masked picture, which speaks of codes already
        self.features = SameConv2d(c.codebook_dim + 1, 8 * n, 1) if c.condition_features else None
        # dilated, so that each place of `cond` has seen the whole picture: a hole's middle needs what is around it
        self.body = nn.Sequential(*(GatedResidual(8 * n, d) for d in c.dilations))

    def forward(self, image: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """Return `cond`.

        `image` (N, 3, H, W) in [-1, 1], `mask` (N, 1, H, W) with 1 in the hole; `features` (N, D, H/8, W/8) are the VQ
        encoder's structure features of the masked picture, read only with `condition_features`.
        """
        x = self.down(with_mask(image, mask))
        if self.features is not None:
            assert features is not None, "this model's condition network reads the features of the masked picture"
            # the fraction of each cell that is hole says how far its features can be trusted
            shrunk = F.adaptive_avg_pool2d(mask.expand(len(image), -1, -1, -1), x.shape[-2:])
            x = x + self.features(torch.cat([features, shrunk], dim=1))
        return self.body(x)


class CausalAttention(nn.Module):
    """Multi-head attention of every position to the positions strictly before it; the first one gets zeros."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(width, heads * width // 8, 1)
        self.key = nn.Conv2d(width, heads * width // 8, 1)
        self.value = nn.Conv2d(width, heads * width // 2, 1)
        self.out = nn.Conv2d(heads * width // 2, width, 1)
        self.before: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = (self.split(p(x)) for p in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(h * w, x.device))
        attended = torch.cat([torch.zeros_like(attended[:, :, :1]), attended[:, :, 1:]], dim=2)
        return self.out(attended.transpose(1, 2).reshape(n, h, w, -1).permute(0, 3, 1, 2))  # channels_last

    def mask(self, positions: int, device: torch.device) -> Tensor:
        """Return which positions (columns) each one (rows) attends to; made once for a size of picture."""
        before = self.before
        if before is None or len(before) != positions or before.device != device:
            # strictly before, as in the released models; what is computed at a position has seen only codes before it,
            # so that position itself would give nothing away
            before = torch.ones(positions, positions, dtype=torch.bool, device=device).tril(-1)
            before[0, 0] = True  # keeps the first row finite; its result is zeroed
            if not torch.compiler.is_compiling():  # a compiled call's memory is that of the next one too
                self.before = before
        return before

    def split(self, x: Tensor) -> Tensor:
        """Separate the heads: (N, heads * d, h, w) -> (N, heads, h*w, d)."""
        n, _, h, w = x.shape
        return x.reshape(n, self.heads, -1, h * w).transpose(2, 3)


class CausalConv2d(nn.Conv2d):
    """A convolution that sees its own row, the row above if it has two, and `left` and `right` columns beside it."""

    def __init__(self, i: int, o: int, kernel: tuple[int, int], left: int, right: int) -> None:
        super().__init__(i, o, kernel)
        self.pads = (left, right, kernel[0] - 1, 0)  # nothing below: the last row of the kernel is the position's own

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(F.pad(input, self.pads), self.weight, self.bias)


class GatedBlock(nn.Module):
    """One gated block of either stream; `u` enters the `ul` stream's, `cond` both."""

    def __init__(self, c: StructureConfig, stream: str, attention: bool) -> None:
        super().__init__()
        m = c.width
        shape = ((2, 3), 1, 1) if stream == "u" else ((2, 2), 1, 0)  # u reaches to both sides, ul to the left
        self.conv1 = CausalConv2d(2 * m, m, *shape)
        self.from_u = nn.Conv2d(2 * m, m, 1) if stream == "ul" else None
        self.conv2 = CausalConv2d(2 * m, 2 * m, *shape)
        self.from_cond = nn.Conv2d(16 * c.condition_width, 2 * m, 1)
        self.attention = CausalAttention(m, c.heads) if attention else None
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, cond: Tensor, u: Tensor | None = None) -> Tensor:
        """`cond` and `u` come after their concat_elu."""
        c = self.conv1(concat_elu(x))  # (N, 2m, h, w) -> (N, m, h, w)
        if self.from_u is not None:
            c = c + self.from_u(u)  # u at a row has seen the rows above it alone, so ul may read it in place
        c = gate(self.conv2(concat_elu(c)) + self.from_cond(cond))
        if self.attention is not None:
            c = c + self.attention(c)
        return x + self.dropout(c)


def shift_down(x: Tensor) -> Tensor:
    """Move the rows one down; zeros enter at the top."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    """Move the columns one to the right; zeros enter at the left."""
    return F.pad(x, (1, 0))[:, :, :, :-1]


def flip_marked(x: Tensor, marked: Tensor | None) -> Tensor:
    """Flip left to right those of N pictures' maps (N, ..., w) that `marked` (N,) bool marks; none for None."""
    return x if marked is None else torch.where(marked.view(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)


class PixelCNN(nn.Module):
    """Structure features and `cond` -> logits of every code given the codes before it in raster order."""

    def __init__(self, c: StructureConfig) -> None:
        super().__init__()
        i, m = c.codebook_dim + 1, c.width
        self.input_u = CausalConv2d(i, m, (2, 3), 1, 1)
        self.input_above = CausalConv2d(i, m, (1, 3), 1, 1)
        self.input_left = CausalConv2d(i, m, (2, 1), 0, 0)
        every = c.layers // c.attention_layers if c.attention_layers else c.layers + 1
        self.u_blocks = nn.ModuleList(GatedBlock(c, "u", False) for _ in range(c.layers))
        self.ul_blocks = nn.ModuleList(GatedBlock(c, "ul", (k + 1) % every == 0) for k in range(c.layers))
        self.out_blocks = nn.ModuleList(nn.Conv2d(m, m, 1) for _ in range(c.output_blocks))
        self.logits = nn.Conv2d(m, c.codebook_size, 1)

    def forward(self, structure: Tensor, cond: Tensor, reading: Tensor | None = None) -> Tensor:
        ones = torch.ones_like(structure[:, :1])  # tells zero padding from data
        if reading is not None:  # not in the paper: -1 says that the map is read from right to left
            ones = ones * reading.to(ones)[:, None, None, None]
        x = torch.cat([structure, ones], dim=1)
        # the only layer that would see a position's own code; the shifts move it out of sight, and later layers may
        # look at their own place: u then has the rows above, ul the row above and what is to the left
        u = shift_down(self.input_u(x))
        ul = shift_down(self.input_above(x)) + shift_right(self.input_left(x))
        cond = concat_elu(cond)
        for u_block, ul_block in zip(self.u_blocks, self.ul_blocks, strict=True):
            u = u_block(u, cond)
            ul = ul_block(ul, cond, concat_elu(u))
        for out in self.out_blocks:
            ul = ul + out(F.elu(ul))
        return self.logits(F.elu(ul))


class StructureGenerator(nn.Module):
    """Condition network and PixelCNN: the distribution of structure codes given a masked picture."""

    def __init__(self, config: StructureConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = ConditionNetwork(config)
        self.pixelcnn = PixelCNN(config)

    def forward(
        self, structure: Tensor, image: Tensor, mask: Tensor, features: Tensor | None, backwards: Tensor | None = None
    ) -> Tensor:
        """Return `logits` given pictures in place of their `cond`: what training calls.

        `backwards` (N,) bool marks the pictures that are read from right to left; their `structure` comes flipped.
        """
        cond = flip_marked(self.condition(image, mask, features), backwards)
        return self.logits(structure, cond, None if backwards is None else 1.0 - 2.0 * backwards.float())

    def logits(self, structure: Tensor, cond: Tensor, reading: Tensor | None = None) -> Tensor:
        """Return logits (N, K, h, w); the one at a position depends on the codes before it alone.

        `structure` (N, D, h, w) quantised features; `cond` (N or 1, 8n, h, w). `reading` (N,) is 1 for rows that are
        read from left to right (None: all) and -1 for those read from right to left, which a model with
        `both_directions` knows: their `structure` and `cond` come flipped left to right, and so do their logits.
        """
        return self.pixelcnn(structure, cond, reading)
