"""The sampler that defines the result: one whole pass a position, in raster order, with noise that the seed decides.

It is slow. `cached` and `native` return the same codes without repeating work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator


def gumbel_noise(seeds: Sequence[int], positions: int, codebook_size: int, wanted: np.ndarray | None = None) -> Tensor:
    """Return Gumbel noise (N, positions, codebook_size), a pure function of (seed, position, code).

    A Philox counter-based generator keyed by the seed; the counter is position * codebook_size + code, so that any
    position can be had without those before it: only those of `wanted`, bool (positions,), are; the others get zeros.
    """
    noise = np.zeros((len(seeds), positions, codebook_size), np.float32)
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)) if wanted is not None else [0, positions]
    for own, seed in zip(noise, seeds, strict=True):
        # every seed has a stream of its own, so neither the order nor the size of a batch matters
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            bits = philox(seed, start * codebook_size, (stop - start) * codebook_size)
            uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # inside (0, 1)
            own[start:stop] = (-np.log(-np.log(uniform))).reshape(-1, codebook_size)
    return torch.from_numpy(noise)


def philox(seed: int, first: int, count: int) -> np.ndarray:
    """Return the numbers `first` to `first + count` of a seed's stream, uint64 (count,)."""
    block, within = divmod(int(first), 4)  # the generator makes four at a time
    stream = np.random.Philox(key=seed).advance(block)
    return stream.random_raw(within + int(count))[within:]


def noisy_logits(logits: Tensor, noise: Tensor, options: SamplingOptions) -> Tensor:
    """Return filtered logits / temperature + noise, (N, K) each; its argmax is the sampled code.

    The Gumbel-max trick: argmax(logits + Gumbel noise) is a sample of softmax(logits). What is random is thus known
    before anything is computed, and every sampler that computes the same logits returns the same codes.
    """
    scaled = logits.float() / options.temperature
    if 0 < options.top_k < scaled.shape[1]:
        least = scaled.topk(options.top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    if options.top_p < 1:
        ordered, order = scaled.sort(dim=1, descending=True, stable=True)
        share = ordered.softmax(1)
        cut = share.cumsum(1) - share >= options.top_p  # keeps the code that crosses the threshold
        scaled = scaled.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), -torch.inf)
    return scaled + noise


def sample_codes(logits: Tensor, noise: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
    """Return the codes sampled from logits (N, K) with noise (N, K), and their unfiltered log-likelihoods: (N,)."""
    codes = noisy_logits(logits, noise.to(logits), options).argmax(1)
    return codes, logits.log_softmax(1).gather(1, codes[:, None])[:, 0]


@dataclass(frozen=True)
class Sampled:
    """`codes` (N, h, w) int64 and `log_likelihood` (N, h, w), the natural log of each under the unfiltered model."""

    codes: Tensor
    log_likelihood: Tensor


@torch.no_grad()
def sample_naive(
    model: StructureGenerator,
    codebook: Tensor,
    cond: Tensor,
    noise: Tensor,
    options: SamplingOptions,
    known: Tensor | None = None,
) -> Sampled:
    """Sample structure codes by one whole pass a position, in raster order: slow, but what every other must return.

    `codebook` (K, D); `cond` (1 or N, 8n, h, w); `noise` (N, h*w, K) from `gumbel_noise`. `known` (1 or N, h, w) int64
    clamps codes, -1 where one is to be sampled (None: everywhere); a clamped code has the log-likelihood zero.
    """
    h, w = cond.shape[-2:]
    known = all_open(cond) if known is None else known
    codes = torch.zeros(len(noise), h, w, dtype=torch.int64, device=cond.device)
    log_likelihood = torch.zeros(len(noise), h, w, device=cond.device)
    for position in range(h * w):
        i, j = divmod(position, w)
        structure = F.embedding(codes, codebook).permute(0, 3, 1, 2)  # (N, D, h, w)
        # what stands at this position and after it does not matter: the PixelCNN does not see it
        logits = model.logits(structure, cond)[:, :, i, j].float()  # (N, K)
        sampled, likelihood = sample_codes(logits, noise[:, position], options)
        codes[:, i, j] = torch.where(known[:, i, j] < 0, sampled, known[:, i, j])
        log_likelihood[:, i, j] = likelihood * (known[:, i, j] < 0)
    return Sampled(codes, log_likelihood)


def all_open(cond: Tensor) -> Tensor:
    """Return `known` codes where none is known: (1, h, w) of -1."""
    return torch.full((1, *cond.shape[-2:]), -1, device=cond.device)
