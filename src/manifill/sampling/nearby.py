"""More like this one: the noise that would have given these codes, moved a little towards fresh noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.sampling.naive import noisy_logits

MARGIN = 1e-3  # by which the other codes stay behind, so that rounding in another sampler does not let them past


def noise_of(codes: Tensor, logits: Tensor, options: SamplingOptions, fresh: Tensor) -> Tensor:
    """Return Gumbel noise, distributed as if it were fresh, with which the codes are sampled from the logits.

    `codes` (P,), `logits` (P, K), `fresh` (P, K) Gumbel noise. The largest sum of logit and noise is a Gumbel variable
    around the log of their total, the others are Gumbel variables below it. A code that the options exclude keeps
    noise that gives it without them.
    """
    scaled = noisy_logits(logits, torch.zeros_like(logits), options).double()
    plain = logits.double() / options.temperature
    scaled = torch.where(scaled.gather(1, codes[:, None]).isinf(), plain, scaled)
    fresh = fresh.double()
    top = scaled.logsumexp(1, keepdim=True) + fresh.gather(1, codes[:, None])
    free = plain + fresh  # of excluded codes: nothing bounds it
    below = -torch.logaddexp(-top, -free) - MARGIN  # truncated at `top`
    sums = torch.where(scaled.isinf(), free, below).scatter(1, codes[:, None], top)
    return sums - plain


def mix_noise(noise: Tensor, fresh: Tensor, amount: float) -> Tensor:
    """Return Gumbel noise between two: the first at amount 0, the second, independent of it, at 1.

    The Gumbel variables are turned into normal ones, which are rotated, so that the mixture is Gumbel noise again: what
    is sampled with it has the model's own distribution.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount is {amount}; expected a number from 0 (the same) to 1 (another)")
    if amount in (0, 1):
        return (fresh if amount else noise).float()
    angle = amount * np.pi / 2
    z = np.cos(angle) * to_normal(noise.numpy()) + np.sin(angle) * to_normal(fresh.numpy())
    return torch.from_numpy(from_normal(z).astype(np.float32))


def to_normal(gumbel: np.ndarray) -> np.ndarray:
    """Turn standard Gumbel variables, float64, into standard normal ones, by their logarithmic distribution."""
    from scipy.special import ndtri_exp

    with np.errstate(over="ignore"):  # noise that excludes a code is -inf as a normal variable
        return ndtri_exp(-np.exp(-gumbel.astype(np.float64)))


def from_normal(z: np.ndarray) -> np.ndarray:
    """The inverse of `to_normal`."""
    from scipy.special import log_ndtr

    with np.errstate(divide="ignore"):
        return -np.log(-log_ndtr(z))
