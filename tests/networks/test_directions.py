"""A PixelCNN that reads its rows in both directions."""

from dataclasses import replace

import pytest
import torch

from manifill.networks.structure import StructureGenerator, flip_marked
from manifill.train.presets import preset


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return StructureGenerator(replace(preset("tiny").model.structure, both_directions=True)).eval()


@torch.no_grad()
@pytest.mark.parametrize("reading", [1.0, -1.0])
def test_causal_in_either_direction(model, reading):
    structure, cond = torch.randn(1, 8, 4, 4), torch.randn(1, 32, 4, 4)
    changed = structure.clone()
    changed[:, :, 2, 1] += 1
    which = torch.tensor([reading])
    moved = (model.logits(structure, cond, which) - model.logits(changed, cond, which)).abs().amax(1).flatten()
    assert moved[:10].max() == 0  # up to the changed position itself
    assert moved[10:].max() > 0


@torch.no_grad()
def test_forwards_is_what_a_model_of_one_direction_computes(model):
    structure, cond = torch.randn(2, 8, 4, 4), torch.randn(2, 32, 4, 4)
    forwards, backwards = torch.ones(2), -torch.ones(2)
    assert torch.equal(model.logits(structure, cond), model.logits(structure, cond, forwards))
    assert not torch.equal(model.logits(structure, cond), model.logits(structure, cond, backwards))


@torch.no_grad()
def test_backwards_rows_see_their_condition_flipped(model):
    image, mask = torch.rand(2, 3, 32, 32) * 2 - 1, torch.zeros(2, 1, 32, 32)
    mask[:, :, :, 16:] = 1
    structure, marked = torch.randn(2, 8, 4, 4), torch.tensor([False, True])
    found = model(structure, image, mask, None, marked)
    cond = model.condition(image, mask)
    assert torch.allclose(found[0], model.logits(structure[:1], cond[:1])[0], atol=1e-5)
    assert torch.allclose(found[1], model.logits(structure[1:], cond[1:].flip(3), -torch.ones(1))[0], atol=1e-5)
    assert torch.equal(flip_marked(structure, marked)[1], structure[1].flip(-1))
