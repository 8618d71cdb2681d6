"""The fast samplers in plain PyTorch: the same codes as `naive.sample_naive`, with everything computed once.

What does not change is kept. `u` at row i depends on the rows above alone, so a whole row of it, and the upper taps
of `ul`, are computed at once; the projections of `cond` once a picture. Only the lower taps of `ul`, the attention with
its cached keys and values, the output blocks and the logits depend on the codes to the left. `sample_cached` computes
those position by position, `sample_rows` a guessed row at a time, again and again until the row reproduces itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import CausalAttention, CausalConv2d, GatedBlock, StructureGenerator, concat_elu, gate
from manifill.sampling.naive import Sampled, all_open, sample_codes


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
    """A 2x2 convolution of the `ul` stream: upper taps a row at a time, lower taps for a run of columns."""

    def __init__(self, conv: CausalConv2d, n: int, w: int) -> None:
        self.upper_weight, self.bias = conv.weight[:, :, :1], conv.bias
        lower = conv.weight[:, :, 1]  # (O, C, 2): left, here
        self.lower_weight = torch.cat([lower[:, :, 0], lower[:, :, 1]], dim=1).t()  # (2C, O)
        self.row = lower.new_zeros(n, 1 + w, lower.shape[1])  # begins with a column of padding
        self.upper = self.row

    def start_row(self, add: Tensor) -> None:
        """Compute the upper taps of a row from the finished one above, plus `add` (N or 1, O, 1, w)."""
        above = self.row.transpose(1, 2)[:, :, None]  # (N, C, 1, 1 + w)
        self.upper = (F.conv2d(above, self.upper_weight, self.bias) + add)[:, :, 0].transpose(1, 2).contiguous()

    def __call__(self, x: Tensor, j: int) -> Tensor:
        """Take columns j and on: (N, s, C) -> (N, s, O)."""
        stop = j + x.shape[1]
        self.row[:, j + 1 : stop + 1] = x
        return self.upper[:, j:stop] + torch.cat([self.row[:, j:stop], x], dim=2) @ self.lower_weight


class CachedAttention:
    """Causal attention with a cache of keys and values, for a run of positions."""

    def __init__(self, attention: CausalAttention, n: int, positions: int) -> None:
        self.attention = attention
        projections = (attention.query, attention.key, attention.value)
        self.projection = torch.cat([p.weight[:, :, 0, 0] for p in projections])
        self.bias = torch.cat([p.bias for p in projections])  # type: ignore[misc]
        self.sizes = [len(p.weight) for p in projections]
        heads, key, value = attention.heads, self.sizes[1], self.sizes[2]
        self.before = torch.ones(positions, positions, dtype=torch.bool, device=self.bias.device).tril(-1)
        self.before[0, 0] = True  # keeps the first row finite; its result is zeroed below
        self.keys = self.bias.new_zeros(n, heads, positions, key // heads)
        self.values = self.bias.new_zeros(n, heads, positions, value // heads)

    def __call__(self, x: Tensor, at: int) -> Tensor:
        """Take the positions from `at` on, which see all before them: (N, s, m) -> (N, s, m)."""
        stop = at + x.shape[1]
        q, k, v = (
            part.unflatten(2, (self.attention.heads, -1)).transpose(1, 2)
            for part in F.linear(x, self.projection, self.bias).split(self.sizes, dim=2)
        )
        self.keys[:, :, at:stop], self.values[:, :, at:stop] = k, v
        keys, values, before = self.keys[:, :, :stop], self.values[:, :, :stop], self.before[at:stop, :stop]
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=before)
        if at == 0:
            mixed[:, :, 0] = 0
        out = self.attention.out
        return F.linear(mixed.transpose(1, 2).flatten(2), out.weight[:, :, 0, 0], out.bias)


class CachedLayer:
    """One layer of both streams, of n rows; `cond` (1 to n, ...) has the row of a picture for all of its samples."""

    def __init__(self, u: GatedBlock, ul: GatedBlock, cond: Tensor, n: int) -> None:
        self.samples = n // len(cond) if len(cond) > 1 else 1
        h, w = cond.shape[2:]
        self.u1, self.u2 = RowConv(u.conv1), RowConv(u.conv2)
        self.ul1, self.ul2 = SplitConv(ul.conv1, n, w), SplitConv(ul.conv2, n, w)
        self.u_cond, self.ul_cond = u.from_cond(cond), ul.from_cond(cond)
        self.from_u = ul.from_u
        self.attention = CachedAttention(ul.attention, n, h * w) if ul.attention is not None else None

    def start_row(self, u: Tensor, i: int) -> Tensor:
        """Advance `u` (N, m, 1, w) through this layer and prepare `ul` for row i."""
        assert self.from_u is not None
        u = u + gate(self.u2(concat_elu(self.u1(concat_elu(u)))) + self.row(self.u_cond, i))
        self.ul1.start_row(self.from_u(concat_elu(u)))
        self.ul2.start_row(self.row(self.ul_cond, i))
        return u

    def row(self, cond: Tensor, i: int) -> Tensor:
        """Return row i of a projection for all samples."""
        row = cond[:, :, i : i + 1]
        return row if self.samples == 1 else row.repeat_interleave(self.samples, dim=0)

    def step(self, x: Tensor, j: int, position: int) -> Tensor:
        """Advance `ul` (N, s, m) at columns j and on, the first of which is at `position` in raster order."""
        c = gate(self.ul2(concat_elu(self.ul1(concat_elu(x, 2), j), 2), j), 2)
        if self.attention is not None:
            c = c + self.attention(c, position)
        return x + c


class Streams:
    """The state of both streams while codes of N samples are sampled row by row."""

    def __init__(self, model: StructureGenerator, codebook: Tensor, cond: Tensor, n: int, known: Tensor | None) -> None:
        self.net, self.codebook, (self.h, self.w) = model.pixelcnn, codebook, cond.shape[-2:]
        self.known = (all_open(cond) if known is None else known).expand(n, -1, -1)
        self.open = (self.known < 0).any(0).tolist()  # [i][j]: some sample has no code here yet
        self.last = max((i for i, row in enumerate(self.open) if any(row)), default=-1)
        self.codes = self.known.clamp_min(0)
        self.log_likelihood = torch.zeros(n, self.h, self.w, device=cond.device)
        projected = concat_elu(cond)
        self.layers = [
            CachedLayer(u, ul, projected, n)  # type: ignore[arg-type]
            for u, ul in zip(self.net.u_blocks, self.net.ul_blocks, strict=True)
        ]

    def features(self, i: int) -> Tensor:
        """Return row i of the codes as the input layer sees it, zeros above the picture: (N, D + 1, 1, w)."""
        n, d = len(self.codes), self.codebook.shape[1]
        if i < 0:
            return self.codebook.new_zeros(n, d + 1, 1, self.w)
        row = F.embedding(self.codes[:, i], self.codebook)  # (n, w, D)
        return F.pad(row, (0, 1), value=1.0).transpose(1, 2)[:, :, None]

    def start_row(self, i: int) -> None:
        """Advance `u` to row i through all layers; the rows above are sampled."""
        net, two = self.net, torch.cat([self.features(i - 2), self.features(i - 1)], dim=2)
        u = F.conv2d(F.pad(two, (1, 1)), net.input_u.weight, net.input_u.bias)
        above = F.conv2d(F.pad(two[:, :, 1:], (1, 1)), net.input_above.weight, net.input_above.bias)
        if i == 0:  # a shifted convolution gives zeros, not its bias, in the row that enters
            u, above = torch.zeros_like(u), torch.zeros_like(above)
        self.above = above[:, :, 0].transpose(1, 2)  # (N, w, m)
        self.row_above = two[:, :, 1:]
        for layer in self.layers:
            u = layer.start_row(u, i)

    def step(self, i: int, j: int, stop: int) -> Tensor:
        """Return `ul` behind all layers at columns [j, stop) of row i, (n, stop - j, m); those before are final."""
        left = torch.cat([self.row_above, self.features(i)], dim=2)[:, :, :, max(j - 1, 0) : stop - 1]
        x = self.above[:, j:stop]
        if left.shape[3]:
            from_left = F.conv2d(left, self.net.input_left.weight, self.net.input_left.bias)[:, :, 0].transpose(1, 2)
            x = x + F.pad(from_left, (0, 0, x.shape[1] - from_left.shape[1], 0))  # none from outside
        for layer in self.layers:
            x = layer.step(x, j, i * self.w + j)
        return x

    def sample(self, x: Tensor, noise: Tensor, options: SamplingOptions, i: int, j: int) -> Tensor:
        """Return the codes at columns j and on of row i, known ones as they are, and note their likelihoods: (N, s)."""
        n, s, first = len(self.codes), x.shape[1], i * self.w + j
        logits = self.logits(x).flatten(0, 1)
        codes, log_likelihood = sample_codes(logits, noise[:, first : first + s].flatten(0, 1), options)
        known = self.known[:, i, j : j + s]
        self.log_likelihood[:, i, j : j + s] = log_likelihood.view(n, s) * (known < 0)
        return torch.where(known < 0, codes.view(n, s), known)

    def logits(self, x: Tensor) -> Tensor:
        """Run the output blocks and the logits: (N, s, m) -> (N, s, K) float32."""
        for out in self.net.out_blocks:
            x = x + F.linear(F.elu(x), out.weight[:, :, 0, 0], out.bias)  # type: ignore[index, arg-type]
        last = self.net.logits
        return F.linear(F.elu(x), last.weight[:, :, 0, 0], last.bias).float()


def runs(open: list[bool]) -> Iterator[tuple[int, int]]:
    """Divide a row into (start, stop): single columns where codes are sampled, known neighbours together."""
    start = 0
    while start < len(open):
        stop = start + 1
        while not open[start] and stop < len(open) and not open[stop]:
            stop += 1
        yield start, stop
        start = stop


@torch.no_grad()
def sample_in_pytorch(
    model: StructureGenerator,
    codebook: Tensor,
    cond: Tensor,
    noise: Tensor,
    options: SamplingOptions,
    known: Tensor | None = None,
    by_rows: bool | None = None,
) -> Sampled:
    """Sample structure codes; the other arguments and the result are those of `naive.sample_naive`.

    `by_rows` says which of the two ways is taken, by default the faster one. On a CPU, rows win for a few samples; many
    seldom agree with a guess all at once.
    """
    if by_rows is None:
        by_rows = cond.device.type != "cpu" or len(noise) <= 4
    s = Streams(model, codebook, cond, len(noise), known)
    for i in range(s.last + 1):
        s.start_row(i)
        (sample_row if by_rows else sample_positions)(s, i, noise, options)
    return Sampled(s.codes, s.log_likelihood)


sample_cached, sample_rows = partial(sample_in_pytorch, by_rows=False), partial(sample_in_pytorch, by_rows=True)


def sample_positions(s: Streams, i: int, noise: Tensor, options: SamplingOptions) -> None:
    """Sample the codes of row i position by position."""
    for j, stop in runs(s.open[i]):
        x = s.step(i, j, stop)
        if s.open[i][j]:
            s.codes[:, i, j : j + 1] = s.sample(x, noise, options, i, j)


def sample_row(s: Streams, i: int, noise: Tensor, options: SamplingOptions) -> None:
    """Sample the codes of row i by fixed-point iteration.

    The row is guessed and all of its codes are sampled at once; what comes out is the next guess. Up to the first code
    that differs from the guess every input was right, so each round makes one code more of every sample final. The
    noise belongs to the position, so this ends, after at most as many rounds as codes are open and one, with the codes
    that one after another gives (Wiggers and Hoogeboom, ICML 2020), and mostly sooner, with a row that gives itself.
    Few large products instead of many small ones, of shapes that do not change within a row: for devices where the
    number of calls costs.
    """
    if i > 0:
        s.codes[:, i] = torch.where(s.known[:, i] < 0, s.codes[:, i - 1], s.codes[:, i])
    for _ in range(min(sum(s.open[i]) + 1, s.w)):
        guess = s.codes[:, i].clone()
        take_round(s, i, noise, options)
        if torch.equal(s.codes[:, i], guess):  # waits for the device; every third round cost 16 % more calls
            break


def take_round(s: Streams, i: int, noise: Tensor, options: SamplingOptions) -> None:
    """Sample all codes of row i, given the guess that stands in their place.

    It does not wait for the device, and reads and writes the same memory every round, so a CUDA graph can replay it
    (`benchmarks/gpu.py` does).
    """
    s.codes[:, i] = s.sample(s.step(i, 0, s.w), noise, options, i, 0)
