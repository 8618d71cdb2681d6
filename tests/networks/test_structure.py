"""The PixelCNN sees only what came before; noise and filters are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manifill.config import SamplingOptions, StructureConfig
from manifill.networks.structure import StructureGenerator
from manifill.sampling.naive import gumbel_noise, noisy_logits
from manifill.train.presets import PRESETS


def generator(c: StructureConfig) -> StructureGenerator:
    model = StructureGenerator(c).eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(1.5)  # larger than at the start, so that logits depend on the codes
    return model


def tiny() -> StructureConfig:
    return PRESETS["tiny"].model.structure


def test_no_logit_depends_on_its_own_or_a_later_code() -> None:
    c, side = tiny(), 6
    model = generator(c)
    structure = torch.randn(1, c.codebook_dim, side, side, requires_grad=True)
    logits = model.logits(structure, torch.randn(1, 8 * c.condition_width, side, side))
    reached = torch.zeros(side * side, dtype=torch.bool)
    for position in range(side * side):
        i, j = divmod(position, side)
        weight = torch.randn(c.codebook_size)
        (gradient,) = torch.autograd.grad((logits[0, :, i, j] * weight).sum(), structure, retain_graph=True)
        seen = gradient.abs().sum(1).flatten() > 0
        assert not seen[position:].any()
        reached |= seen
    assert reached[:-1].all()  # and every code but the last matters to a later one


def test_attention_carries_the_first_code_to_the_last_logit() -> None:
    c, side = tiny(), 12
    model = generator(c)
    structure = torch.randn(1, c.codebook_dim, side, side, requires_grad=True)
    logits = model.logits(structure, torch.randn(1, 8 * c.condition_width, side, side))
    (gradient,) = torch.autograd.grad(logits[0, :, -1, -1].pow(2).sum(), structure)
    assert gradient[0, :, 0, 0].abs().sum() > 0


def test_noise_is_a_function_of_seed_position_and_code() -> None:
    noise = gumbel_noise([7, 3, 9], 20, 32)
    assert torch.equal(noise[1:2], gumbel_noise([3], 20, 32))
    assert torch.equal(noise[:, :5], gumbel_noise([7, 3, 9], 5, 32))
    assert not torch.equal(noise[0], noise[1])
    values = gumbel_noise([1], 1000, 512)
    assert abs(values.mean().item() - 0.5772) < 0.01
    assert abs(values.var().item() - torch.pi**2 / 6) < 0.02


@pytest.mark.parametrize("codes", [32, 33])
def test_noise_of_a_hole_is_that_of_the_whole(codes: int) -> None:
    wanted = np.isin(np.arange(20), [3, 4, 5, 9, 19])
    whole, part = gumbel_noise([7, 2**40 - 1], 20, codes), gumbel_noise([7, 2**40 - 1], 20, codes, wanted)
    assert torch.equal(part[:, wanted], whole[:, wanted])
    assert not part[:, ~wanted].any()


def test_noise_is_the_same_on_every_machine() -> None:
    wanted = torch.tensor([-1.4955, -0.3511, -0.7859])
    assert torch.allclose(gumbel_noise([0], 1, 3)[0, 0], wanted, atol=1e-4)


def test_filters() -> None:
    logits, quiet = torch.randn(3, 32), torch.zeros(3, 32)
    assert (noisy_logits(logits, quiet, SamplingOptions(top_k=5)).isfinite().sum(1) == 5).all()
    kept = noisy_logits(logits, quiet, SamplingOptions(top_p=0.7)).isfinite()
    share = logits.softmax(1)
    for row in range(3):
        held = share[row][kept[row]]
        assert held.sum() >= 0.7 > held.sum() - held.min()
        assert held.min() >= share[row][~kept[row]].max()
    assert torch.allclose(noisy_logits(logits, quiet, SamplingOptions(temperature=0.5)), 2 * logits)


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_bad_options_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SamplingOptions(**bad)


def test_condition_ignores_what_is_under_the_hole() -> None:
    c = tiny()
    model, image, mask = generator(c), torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    other = torch.where(mask > 0, torch.rand_like(image), image)
    assert torch.equal(model.condition(image, mask), model.condition(other, mask))
