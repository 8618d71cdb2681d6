"""Reading from right to left: every sampler returns what the naive one defines; likelihoods."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from test_samplers import EVERY, TINY, assert_same_codes, generator, known_codes, sampler
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator
from manifill.sampling.directions import backwards, log_likelihood, mirrored
from manifill.sampling.naive import Sampled, gumbel_noise, sample_naive

BOTH = dataclasses.replace(TINY, both_directions=True)
N, SIDE = 3, 6


def given() -> tuple[StructureGenerator, Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    model, codebook = generator(BOTH), torch.randn(BOTH.codebook_size, BOTH.codebook_dim)
    cond = torch.randn(1, 8 * BOTH.condition_width, SIDE, SIDE)
    return model, codebook, cond, gumbel_noise(range(N), SIDE**2, BOTH.codebook_size)


def flipped(sampled: Sampled) -> Sampled:
    return Sampled(sampled.codes.flip(2), sampled.log_likelihood.flip(2))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("pattern", ["none", "middle", "scattered"])
def test_agrees_with_the_naive_sampler(name: str, pattern: str) -> None:
    model, codebook, cond, noise = given()
    known, options = known_codes(BOTH, pattern, N, SIDE), SamplingOptions(0.9, 25, 0.95)
    naive = sample_naive(model, codebook, cond, noise, options, known=known, reading=-1)
    other = mirrored(model)
    sample = backwards(lambda *rest: sampler(name)(other, codebook, *rest))
    found = sample(cond, noise, options, None, known)
    turned = noise.view(N, SIDE, SIDE, -1).flip(2).flatten(1, 2)  # the near ties are those of the mirrored model
    assert_same_codes(other, codebook, cond.flip(3), turned, options, flipped(naive), flipped(found))
    if known is not None:
        assert torch.equal(
            found.codes[known.expand(N, -1, -1) >= 0], known.expand(N, -1, -1)[known.expand(N, -1, -1) >= 0]
        )
    forwards = sample_naive(model, codebook, cond, noise, options, known=known)
    assert not torch.equal(forwards.codes, found.codes)


def test_the_mirrored_model_is_the_same_network_with_minus_one_in_the_channel_of_ones() -> None:
    model, codebook, cond, _ = given()
    codes = torch.randint(BOTH.codebook_size, (2, SIDE, SIDE))
    structure = F.embedding(codes, codebook).permute(0, 3, 1, 2)
    other = mirrored(model)
    wanted = model.logits(structure, cond, torch.tensor([-1.0, -1.0]))
    assert torch.allclose(other.logits(structure, cond), wanted, atol=1e-5)
    same = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in other.parameters()}
    assert len(same) == len(list(model.parameters())) - 3
    with pytest.raises(ValueError, match="left to right alone"):
        mirrored(generator(TINY))


def test_the_noise_of_a_position_belongs_to_its_place() -> None:
    """With noise that decides alone, both readings draw the same codes."""
    model, codebook, cond, noise = given()
    loud = noise * 1e4
    assert torch.equal(
        sample_naive(model, codebook, cond, loud, SamplingOptions()).codes,
        sample_naive(model, codebook, cond, loud, SamplingOptions(), reading=-1).codes,
    )


@pytest.mark.parametrize("reading", [1, -1])
def test_the_likelihood_of_codes_is_what_sampling_them_said(reading: int) -> None:
    model, codebook, cond, noise = given()
    sampled = sample_naive(model, codebook, cond, noise, SamplingOptions(0.7, 5), reading=reading)
    found = log_likelihood(model, codebook, sampled.codes, cond, reading)
    assert torch.allclose(found, sampled.log_likelihood, atol=1e-4)
    assert not torch.allclose(log_likelihood(model, codebook, sampled.codes, cond, -reading), found, atol=1e-2)


@pytest.mark.parametrize("reading", [1, -1])
def test_probabilities_of_all_pictures_sum_to_one(reading: int) -> None:
    torch.manual_seed(1)
    c = dataclasses.replace(BOTH, codebook_size=3)
    model, codebook, cond = generator(c), torch.randn(3, c.codebook_dim), torch.randn(1, 8 * c.condition_width, 2, 2)
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(81, 2, 2)
    assert log_likelihood(model, codebook, every, cond, reading).sum((1, 2)).exp().sum() == pytest.approx(1, abs=1e-4)
