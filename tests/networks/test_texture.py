"""Structural attention and the sharing of what does not depend on the sample."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from manifill.config import TextureConfig
from manifill.networks.texture import (
    StructuralAttention,
    TextureGenerator,
    cell_scores,
    diagonal_sums,
    fuse_scores,
    similarity,
)


def test_similarity_is_standardised_and_falls_with_distance() -> None:
    d = torch.rand(3, 50) * 100
    wanted = -torch.tanh((d - d.mean(1, keepdim=True)) / d.std(1, keepdim=True, correction=0))
    assert torch.allclose(similarity(d), wanted, atol=1e-5)
    assert torch.equal(similarity(d).argmax(1), d.argmin(1))


def test_fuse_is_an_identity_matrix_convolution_both_ways() -> None:
    h, w = 3, 4
    s = torch.randn(2, h * w, h * w)
    kernel = torch.eye(3)[None, None]
    once = F.conv2d(s[:, None], kernel, padding=1)[:, 0]
    assert torch.allclose(diagonal_sums(s), once, atol=1e-6)
    order = torch.arange(h * w).view(h, w).t().flatten()  # column-major
    turned = F.conv2d(once[:, order][:, :, order][:, None], kernel, padding=1)[:, 0]
    back = torch.argsort(order)
    assert torch.allclose(fuse_scores(s, h, w), turned[:, back][:, :, back], atol=1e-6)


def test_a_cell_is_most_like_itself() -> None:
    scores = cell_scores(torch.randn(1, 8, 5, 5), fuse=False)
    assert torch.equal(scores.argmax(2)[0], torch.arange(25))


@pytest.mark.parametrize("mode", ["full", "cross"])
@pytest.mark.parametrize("source", ["structural", "learned"])
def test_weights_sum_to_one(mode: str, source: str) -> None:
    attention = StructuralAttention(TextureConfig(8, 8, mode, source))  # type: ignore[arg-type]
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:16, 8:24] = 1
    weights = attention.weights(torch.randn(2, 8, 4, 4), torch.randn(2, 16, 8, 8), mask)
    assert torch.allclose(weights.sum(2), torch.ones(2, 16), atol=1e-5)
    if mode == "cross":
        hole = torch.zeros(16, dtype=torch.bool)
        hole[5:7] = True
        assert torch.equal(weights[:, ~hole][:, :, ~hole], torch.eye(14).expand(2, -1, -1))
        assert weights[:, :, hole][:, hole].abs().max() == 0


def test_cross_attention_of_an_all_hole_mask_is_finite() -> None:
    attention = StructuralAttention(TextureConfig(8, 8, "cross"))
    assert (
        attention.weights(torch.randn(1, 8, 4, 4), torch.randn(1, 16, 8, 8), torch.ones(1, 1, 32, 32)).isfinite().all()
    )


def test_transfer_moves_whole_patches() -> None:
    features, order = torch.randn(1, 3, 16, 16), torch.randperm(16)
    weights = torch.eye(16)[order][None]
    moved = StructuralAttention.transfer(weights, features, (4, 4))
    for k in range(16):
        (i, j), (y, x) = divmod(k, 4), divmod(int(order[k]), 4)
        there = features[..., 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        assert torch.equal(moved[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4], there)


@pytest.mark.parametrize("mode", ["full", "cross", "none"])
def test_samples_share_the_picture(mode: str) -> None:
    model = TextureGenerator(TextureConfig(8, 8, mode)).eval().requires_grad_(False)  # type: ignore[arg-type]
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    structures = torch.randn(3, 8, 8, 8)
    together = model.paint(*model.image_features(image, mask), structures, mask)
    for k in range(3):
        assert torch.allclose(together[k], model(image, mask, structures[k : k + 1])[0], atol=1e-5)
    assert together.abs().max() <= 1


def test_the_signal_survives_the_gates_at_the_start() -> None:
    model = TextureGenerator(TextureConfig(8, 16)).requires_grad_(False)
    assert model(torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64), torch.randn(1, 8, 8, 8)).std() > 0.02
