"""The VQ-VAE's invariants: padding, quantisation, the moving codebook."""

from __future__ import annotations

import pytest
import torch

from manifill.networks.layers import SameConv2d, same_padding
from manifill.networks.vqvae import VQVAE, WINDOW, Quantiser, untouched
from manifill.train.codebooks import reseed
from manifill.train.presets import PRESETS


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "wanted"),
    [
        (64, 3, 1, 1, (1, 1)),
        (64, 3, 2, 1, (0, 1)),
        (64, 5, 2, 1, (1, 2)),
        (64, 4, 2, 1, (1, 1)),
        (16, 3, 1, 8, (8, 8)),
        (1, 5, 2, 1, (2, 2)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, dilation: int, wanted: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride, dilation) == wanted


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (5, 1, 1), (3, 1, 16)])
def test_same_size_out(kernel: int, stride: int, dilation: int) -> None:
    assert SameConv2d(2, 3, kernel, stride, dilation)(torch.zeros(1, 2, 12, 20)).shape == (
        1,
        3,
        12 // stride,
        20 // stride,
    )


def test_quantised_is_lookup_of_codes() -> None:
    model = VQVAE(PRESETS["tiny"].model.vqvae).eval().requires_grad_(False)
    e = model.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert e.structure_codes.shape == (2, 8, 8)
    assert e.texture_codes.shape == (2, 16, 16)
    assert torch.equal(model.lookup(e.structure_codes), e.structure)


def test_nearest_prototype() -> None:
    q = Quantiser(16, 4)
    features = torch.randn(2, 4, 3, 3)
    rows = features.permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.equal(q.codes(features).flatten(), torch.cdist(rows, q.codebook).argmin(1))


def test_straight_through_gradient() -> None:
    features = torch.randn(1, 4, 2, 2, requires_grad=True)
    quantised, _ = Quantiser(8, 4)(features)
    weight = torch.randn_like(quantised)
    (quantised * weight).sum().backward()
    assert torch.equal(features.grad, weight)  # type: ignore[arg-type]


def test_codebook_moves_as_in_the_paper() -> None:
    q, decay = Quantiser(4, 2), 0.99
    sizes, sums = q.sizes.clone(), q.sums.clone()
    features = torch.randn(1, 2, 3, 3)
    codes = q.codes(features)
    q.update(features, codes, decay)
    for k in range(4):
        rows = features[0].permute(1, 2, 0)[codes[0] == k]
        sizes[k] = 0.99 * sizes[k] + 0.01 * len(rows)
        sums[k] = 0.99 * sums[k] + 0.01 * rows.sum(0)
    smoothed = (sizes + 1e-5) / (sizes.sum() + 4e-5) * sizes.sum()
    assert torch.allclose(q.codebook, sums / smoothed[:, None], atol=1e-6)


def test_reseed_takes_features_of_the_batch() -> None:
    q = Quantiser(4, 2)
    features = torch.randn(1, 2, 3, 3)
    dead = torch.tensor([False, True, False, True])
    kept = q.codebook[~dead].clone()
    assert reseed(q, features, dead) == 2
    rows = q.flatten(features)
    assert all((rows == row).all(1).any() for row in q.codebook[dead])
    assert torch.equal(q.codebook[~dead], kept)


@pytest.mark.parametrize("side", [128, 256])
def test_untouched_codes_are_those_that_the_hole_cannot_change(side: int) -> None:
    """Within the window every pixel matters to a code, beyond it none does."""
    encoder = VQVAE(PRESETS["tiny"].model.vqvae).eval().encoder
    image = torch.rand(1, 3, side, side, requires_grad=True)
    i, j = side // 16, side // 16 + 1
    (gradient,) = torch.autograd.grad(encoder.structure_features(image)[0, :, i, j].pow(2).sum(), image)
    reached = (gradient[0].abs().sum(0) > 0).nonzero()
    before, after = WINDOW
    for axis, cell in ((0, i), (1, j)):
        assert reached[:, axis].min() == max(8 * cell - before, 0)
        assert reached[:, axis].max() == min(8 * cell + after, side - 1)


def test_untouched_is_exact() -> None:
    torch.manual_seed(3)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 100:141, 120:133] = 1
    fixed = untouched(mask)[0]
    for i in range(32):
        for j in range(32):
            window = mask[0, 0, max(8 * i - 43, 0) : 8 * i + 51, max(8 * j - 43, 0) : 8 * j + 51]
            assert bool(fixed[i, j]) == (window.sum() == 0)
    centre = torch.zeros(1, 1, 256, 256)
    centre[..., 64:192, 64:192] = 1
    assert untouched(centre).sum() == 240
