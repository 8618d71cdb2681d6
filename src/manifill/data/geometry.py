"""Pictures turned, scaled and shifted a little, so that a model does not depend on where a detector puts its square.

Not in the paper. A photo that nobody prepared is framed by a face detector or by the hole, and both err.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ANGLE = 10.0  # degrees to either side
SCALE = (0.85, 1.25)  # below 1 more is seen than the picture holds, and its border is mirrored
SHIFT = 0.08  # of the side, along each axis


def maps(count: int, fraction: float, rng: np.random.Generator) -> Tensor:
    """Return similarity maps (count, 2, 3) float32 for `warp`: a `fraction` of them random, the others identity."""
    angle = np.radians(rng.uniform(-ANGLE, ANGLE, count))
    scale = np.exp(rng.uniform(math.log(SCALE[0]), math.log(SCALE[1]), count))
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (count, 2))  # the side is 2 long
    still = rng.random(count) >= fraction
    angle[still], scale[still], shift[still] = 0.0, 1.0, 0.0
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    rows = np.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], axis=1)
    return torch.from_numpy(rows.reshape(count, 2, 3).astype(np.float32))


def warp(image: Tensor, maps: Tensor) -> Tensor:
    """Return pictures (N, 3, H, W) in [-1, 1] read through maps (N, 2, 3) from target to source, both in [-1, 1].

    Bicubic, mirrored beyond the border.
    """
    grid = F.affine_grid(maps.to(image), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, "bicubic", "reflection", align_corners=False).clamp(-1, 1)
