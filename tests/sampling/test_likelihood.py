"""Likelihoods of codes, read from left to right and from right to left."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch
from test_samplers import TINY, generator
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.networks.structure import StructureGenerator
from manifill.sampling.directions import log_likelihood
from manifill.sampling.naive import gumbel_noise, sample_naive

BOTH = dataclasses.replace(TINY, both_directions=True)
N, SIDE = 3, 6


def given() -> tuple[StructureGenerator, Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    model, codebook = generator(BOTH), torch.randn(BOTH.codebook_size, BOTH.codebook_dim)
    cond = torch.randn(1, 8 * BOTH.condition_width, SIDE, SIDE)
    return model, codebook, cond, gumbel_noise(range(N), SIDE**2, BOTH.codebook_size)


def test_the_likelihood_of_codes_is_what_sampling_them_said() -> None:
    model, codebook, cond, noise = given()
    sampled = sample_naive(model, codebook, cond, noise, SamplingOptions(0.7, 5))
    found = log_likelihood(model, codebook, sampled.codes, cond)
    assert torch.allclose(found, sampled.log_likelihood, atol=1e-4)
    assert not torch.allclose(log_likelihood(model, codebook, sampled.codes, cond, -1), found, atol=1e-2)


def test_a_mirrored_map_is_read_from_right_to_left_by_turned_weights() -> None:
    """-1 in the channel of ones is the same as turning the sign of the weights that read it."""
    model, codebook, cond, _ = given()
    codes, other = torch.randint(BOTH.codebook_size, (2, SIDE, SIDE)), copy.deepcopy(model)
    for conv in (other.pixelcnn.input_u, other.pixelcnn.input_above, other.pixelcnn.input_left):
        conv.weight[:, -1] *= -1
    wanted = log_likelihood(other, codebook, codes.flip(2), cond.flip(3)).flip(2)
    assert torch.allclose(log_likelihood(model, codebook, codes, cond, -1), wanted, atol=1e-5)


@pytest.mark.parametrize("reading", [1, -1])
def test_probabilities_of_all_pictures_sum_to_one(reading: int) -> None:
    torch.manual_seed(1)
    c = dataclasses.replace(BOTH, codebook_size=3)
    model, codebook, cond = generator(c), torch.randn(3, c.codebook_dim), torch.randn(1, 8 * c.condition_width, 2, 2)
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(81, 2, 2)
    assert log_likelihood(model, codebook, every, cond, reading).sum((1, 2)).exp().sum() == pytest.approx(1, abs=1e-4)
