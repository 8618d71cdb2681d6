"""The cached sampler: the same codes as `structure.sample_naive`, each computed once, in plain PyTorch.

What does not change is kept. `u` at row i depends on the rows above alone, so a whole row of it, and the upper taps
of `ul`, are computed at once; the projections of `cond` once a picture. Only the lower taps of `ul`, the attention with
its cached keys and values, the output blocks and the logits run position by position, all samples in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.structure import (
    CausalAttention,
    CausalConv2d,
    GatedBlock,
    Sampled,
    SamplingOptions,
    StructureGenerator,
    concat_elu,
    draw,
    gate,
)


class RowConv:
    """A two-row convolution fed one row at a time; it remembers the row above."""

    def __init__(self, conv: CausalConv2d) -> None:
        self.conv = conv
        self.above: Tensor | None = None

    def __call__(self, row: Tensor) -> Tensor:
        """(N, C, 1, w) -> (N, O, 1, w)."""
        above = torch.zeros_like(row) if self.above is None else self.above
        self.above = row
        left, right, _, _ = self.conv.pads
        both = F.pad(torch.cat([above, row], dim=2), (left, right))
        return F.conv2d(both, self.conv.weight, self.conv.bias)


class SplitConv:
    """A 2x2 convolution of the `ul` stream: upper taps a row at a time, lower taps a position at a time."""

    def __init__(self, conv: CausalConv2d) -> None:
        self.upper_weight, self.bias = conv.weight[:, :, :1], conv.bias
        lower = conv.weight[:, :, 1]  # (O, C, 2): left, here
        self.lower_weight = torch.cat([lower[:, :, 0], lower[:, :, 1]], dim=1)  # (O, 2C)
        self.row: list[Tensor] = []
        self.upper: Tensor | None = None

    def start_row(self, n: int, w: int, add: Tensor) -> None:
        """Compute the upper taps of a row from the finished one above, plus `add` (N or 1, O, 1, w)."""
        above = (
            torch.stack(self.row, dim=2)[:, :, None] if self.row else add.new_zeros(n, self.upper_weight.shape[1], 1, w)
        )
        upper = F.conv2d(F.pad(above, (1, 0)), self.upper_weight, self.bias) + add
        self.upper = upper[:, :, 0].permute(2, 0, 1).contiguous()  # (w, N, O)
        self.row = []

    def __call__(self, x: Tensor) -> Tensor:
        """Take the next position of the row: (N, C) -> (N, O)."""
        assert self.upper is not None, "start_row comes first"
        left = self.row[-1] if self.row else torch.zeros_like(x)
        j = len(self.row)
        self.row.append(x)
        return torch.addmm(self.upper[j], torch.cat([left, x], dim=1), self.lower_weight.t())


class CachedAttention:
    """Causal attention with a cache of keys and values, one position at a time."""

    def __init__(self, attention: CausalAttention, n: int, positions: int) -> None:
        self.attention = attention
        self.projection = torch.cat([p.weight[:, :, 0, 0] for p in (attention.query, attention.key, attention.value)])
        self.bias = torch.cat([p.bias for p in (attention.query, attention.key, attention.value)])  # type: ignore[misc]
        self.sizes = [p.weight.shape[0] for p in (attention.query, attention.key, attention.value)]
        heads, dtype = attention.heads, self.bias.dtype
        self.keys = torch.zeros(n, heads, positions, self.sizes[1] // heads, dtype=dtype, device=self.bias.device)
        self.values = torch.zeros(n, heads, positions, self.sizes[2] // heads, dtype=dtype, device=self.bias.device)
        self.at = 0

    def __call__(self, x: Tensor) -> Tensor:
        """(N, m) -> (N, m)."""
        n, heads = len(x), self.attention.heads
        q, k, v = torch.addmm(self.bias, x, self.projection.t()).split(self.sizes, dim=1)
        if self.at == 0:
            mixed = torch.zeros_like(v)
        else:
            scores = self.keys[:, :, : self.at] @ q.view(n, heads, -1, 1)  # (N, heads, at, 1)
            share = (scores / math.sqrt(q.shape[1] // heads)).softmax(2)
            mixed = (share.transpose(2, 3) @ self.values[:, :, : self.at]).reshape(n, -1)
        self.keys[:, :, self.at] = k.view(n, heads, -1)
        self.values[:, :, self.at] = v.view(n, heads, -1)
        self.at += 1
        out = self.attention.out
        return torch.addmm(out.bias, mixed, out.weight[:, :, 0, 0].t())  # type: ignore[arg-type]


class Layer:
    """One layer of both streams."""

    def __init__(self, u: GatedBlock, ul: GatedBlock, cond: Tensor, n: int) -> None:
        positions = cond.shape[2] * cond.shape[3]
        self.u1, self.u2 = RowConv(u.conv1), RowConv(u.conv2)
        self.ul1, self.ul2 = SplitConv(ul.conv1), SplitConv(ul.conv2)
        self.u_cond, self.ul_cond = u.from_cond(cond), ul.from_cond(cond)
        self.from_u = ul.from_u
        self.attention = CachedAttention(ul.attention, n, positions) if ul.attention is not None else None

    def start_row(self, u: Tensor, i: int) -> Tensor:
        """Advance `u` (N, m, 1, w) through this layer and prepare `ul` for row i."""
        assert self.from_u is not None
        u = u + gate(self.u2(concat_elu(self.u1(concat_elu(u)))) + self.u_cond[:, :, i : i + 1])
        n, w = len(u), u.shape[-1]
        self.ul1.start_row(n, w, self.from_u(concat_elu(u)))
        self.ul2.start_row(n, w, self.ul_cond[:, :, i : i + 1])
        return u

    def step(self, x: Tensor) -> Tensor:
        """Advance `ul` (N, m) at the next position."""
        c = gate(self.ul2(concat_elu(self.ul1(concat_elu(x)))))
        if self.attention is not None:
            c = c + self.attention(c)
        return x + c


@torch.no_grad()
def sample_cached(
    model: StructureGenerator,
    codebook: Tensor,
    cond: Tensor,
    noise: Tensor,
    options: SamplingOptions,
    callback: Callable[[int, int], None] | None = None,
) -> Sampled:
    """Draw structure codes; arguments and result as in `structure.sample_naive`, rounding apart."""
    net, (h, w), n = model.pixelcnn, cond.shape[-2:], len(noise)
    projected = concat_elu(cond)
    layers = [
        Layer(u, ul, projected, n)  # type: ignore[arg-type]
        for u, ul in zip(net.u_blocks, net.ul_blocks, strict=True)
    ]
    codes = torch.zeros(n, h, w, dtype=torch.int64, device=cond.device)
    log_likelihood = torch.zeros(n, h, w, device=cond.device)
    rows = cond.new_zeros(n, codebook.shape[1] + 1, h + 2, w)  # two rows of padding above the picture
    for i in range(h):
        u = F.conv2d(F.pad(rows[:, :, i : i + 2], (1, 1)), net.input_u.weight, net.input_u.bias)
        above = F.conv2d(F.pad(rows[:, :, i + 1 : i + 2], (1, 1)), net.input_above.weight, net.input_above.bias)
        if i == 0:  # a shifted convolution gives zeros, not its bias, in the row that enters
            u, above = torch.zeros_like(u), torch.zeros_like(above)
        for layer in layers:
            u = layer.start_row(u, i)
        for j in range(w):
            x = above[:, :, 0, j]
            if j > 0:
                two = rows[:, :, i + 1 : i + 3, j - 1 : j]
                x = x + F.conv2d(two, net.input_left.weight, net.input_left.bias)[:, :, 0, 0]
            for layer in layers:
                x = layer.step(x)
            position = i * w + j
            codes[:, i, j], log_likelihood[:, i, j] = draw(output(model, x), noise[:, position], options)
            rows[:, :-1, i + 2, j] = codebook[codes[:, i, j]].to(rows.dtype)
            rows[:, -1, i + 2, j] = 1
            if callback:
                callback(position + 1, h * w)
    return Sampled(codes, log_likelihood)


def output(model: StructureGenerator, x: Tensor) -> Tensor:
    """Run the output blocks and the logits on one position: (N, m) -> (N, K) float32."""
    for out in model.pixelcnn.out_blocks:
        x = x + F.linear(F.elu(x), out.weight[:, :, 0, 0], out.bias)  # type: ignore[index, arg-type]
    last = model.pixelcnn.logits
    return F.linear(F.elu(x), last.weight[:, :, 0, 0], last.bias).float()
