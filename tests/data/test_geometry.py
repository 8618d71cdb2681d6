"""Training pictures that are turned, scaled and shifted, and masks of any fraction."""

import numpy as np
import pytest
import torch

from manifill.data import geometry, masks
from manifill.data.batches import Batches


class Few:
    size, in_memory = 32, True

    def __init__(self):
        self.array = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)

    def __len__(self):
        return len(self.array)

    def prepared(self, index):
        return self.array[index]


def test_identity_maps_leave_pictures_as_they_are():
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    still = geometry.maps(2, 0.0, np.random.default_rng(0))
    assert torch.equal(still, torch.eye(2, 3).expand(2, -1, -1))
    assert (geometry.warp(image, still) - image).abs().max() < 1e-5


def test_maps_stay_within_what_is_promised():
    found = geometry.maps(2000, 1.0, np.random.default_rng(0)).double()
    scale = 1 / found[:, :, :2].det().sqrt()
    angle = torch.rad2deg(torch.atan2(found[:, 1, 0], found[:, 0, 0]))
    assert 0.85 - 1e-5 < scale.min() < 0.9 < 1.2 < scale.max() < 1.25 + 1e-5
    assert 9 < angle.abs().max() < 10.0001
    assert 0.14 < found[:, :, 2].abs().max() < 0.1601  # 8 % of a side that is 2 long


def test_batches_with_geometry_are_a_function_of_seed_and_step_and_of_no_division():
    whole = Batches(Few(), 4, 3, flip=True, geometry=0.7)
    halves = [Batches(Few(), 4, 3, flip=True, part=(k, 2), geometry=0.7) for k in range(2)]
    image, _ = whole(5)
    assert torch.equal(image, torch.cat([half(5)[0] for half in halves]))
    assert not torch.equal(image, Batches(Few(), 4, 3, flip=True)(5)[0])


@pytest.mark.parametrize("seed", range(3))
def test_holes_of_any_fraction(seed):
    rng = np.random.default_rng(seed)
    fractions = np.array([masks.KINDS["any"](64, rng).mean() for _ in range(150)])
    assert fractions.min() < 0.15
    assert fractions.max() > 0.85
    assert (fractions > 0.04).all()
    assert 0.4 < fractions.mean() < 0.65
