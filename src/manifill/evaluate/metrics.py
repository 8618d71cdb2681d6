"""Measures as pure functions of pictures and features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return decibels between pictures (N, 3, H, W) in 0..255, over the whole picture: (N,)."""
    return 10 * (255**2 / ((a.float() - b.float()) ** 2).mean((1, 2, 3))).log10()


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features (N, F) and (M, F); lower is nearer.

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)). Name the feature network beside the figure.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(covariance_a @ covariance_b).real.clip(0))
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * roots.sum())


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the distance of two pictures' feature maps, layer by layer (N, C, h, w): (N,).

    Features are scaled to unit length at every place; squared differences are summed over channels, averaged over
    places and added over layers. LPIPS without its learned weights.
    """
    total = None
    for x, y in zip(a, b, strict=True):
        x, y = (f / f.norm(dim=1, keepdim=True).clamp_min(1e-10) for f in (x.float(), y.float()))
        layer = ((x - y) ** 2).sum(1).mean((1, 2))
        total = layer if total is None else total + layer
    assert total is not None, "no layers"
    return total
