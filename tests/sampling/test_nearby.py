"""Noise that would have drawn given codes, and noise between it and other noise: Gumbel noise all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from manifill.config import SamplingOptions
from manifill.sampling.naive import gumbel_noise, noisy_logits, sample_codes
from manifill.sampling.nearby import from_normal, mix_noise, noise_of, to_normal

GUMBEL = stats.gumbel_r


OPTIONS = {
    "plain": SamplingOptions(),
    "cold": SamplingOptions(temperature=0.05),
    "hot": SamplingOptions(temperature=3.0),
    "top k": SamplingOptions(top_k=5),
    "top p": SamplingOptions(top_p=0.7, temperature=0.8),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_noise_that_draws_given_codes(name: str) -> None:
    options, rng = OPTIONS[name], torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3000, 32, generator=rng)
    codes, _ = sample_codes(logits, gumbel_noise([1], 3000, 32)[0], options)
    noise = noise_of(codes, logits, options, gumbel_noise([2], 3000, 32)[0])
    assert torch.equal(sample_codes(logits, noise.float(), options)[0], codes)
    assert torch.equal(
        sample_codes(logits + 1e-5 * torch.randn(3000, 32, generator=rng), noise.float(), options)[0], codes
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_such_noise_is_gumbel_noise(name: str) -> None:
    """Over codes as the model draws them; for each code of the first row, and for all together."""
    options = OPTIONS[name]
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)).expand(20000, 8).contiguous()
    codes, _ = sample_codes(logits, gumbel_noise([1], 20000, 8)[0], options)
    noise = noise_of(codes, logits, options, gumbel_noise([2], 20000, 8)[0]).numpy()
    allowed = np.isfinite(noisy_logits(logits[:1], torch.zeros(1, 8), options)[0].numpy())
    for k in np.flatnonzero(allowed):
        assert stats.kstest(noise[:, k], GUMBEL.cdf).pvalue > 1e-4
    together = np.corrcoef(noise[:, allowed].T)
    assert np.abs(together - np.eye(len(together))).max() < 0.05


def test_a_code_that_is_not_allowed_is_drawn_without_the_filter() -> None:
    logits = torch.tensor([[5.0, 4.0, 0.0, -3.0]]).expand(500, 4).contiguous()
    codes = torch.full((500,), 3)
    noise = noise_of(codes, logits, SamplingOptions(top_k=2), gumbel_noise([0], 500, 4)[0])
    assert torch.equal(sample_codes(logits, noise, SamplingOptions())[0], codes)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_mixed_noise_is_gumbel_noise(amount: float) -> None:
    a, b = gumbel_noise([1, 2], 200, 100).double()
    found = mix_noise(a, b, amount).numpy().ravel()
    assert stats.kstest(found, GUMBEL.cdf).pvalue > 1e-3
    kept = np.corrcoef(to_normal(found), to_normal(a.numpy().ravel()))[0, 1]
    assert kept == pytest.approx(np.cos(amount * np.pi / 2), abs=0.03)


def test_mixing_nothing_keeps_the_noise_and_all_forgets_it() -> None:
    a, b = gumbel_noise([1, 2], 50, 20).double()
    a[0, 0], a[1, 1] = 900, -900  # a code that was all but impossible, and one that was all but certain
    assert torch.equal(mix_noise(a, b, 0), a.float())
    assert torch.equal(mix_noise(a, b, 1), b.float())
    half = mix_noise(a, b, 0.5)
    assert not half.isnan().any()
    assert half[0, 0] > half[1].max()
    for amount in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="amount is"):
            mix_noise(a, b, amount)


def test_gumbel_and_normal_and_back() -> None:
    x = np.linspace(-6, 30, 1000)
    assert np.allclose(from_normal(to_normal(x)), x, atol=1e-9)
    assert np.allclose(to_normal(x[:500]), stats.norm.ppf(GUMBEL.cdf(x[:500])), atol=1e-6)
