"""From the model's size back to the photo's: fine detail carried over, and colours that meet those around the hole."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from manifill.networks.texture import cell_scores
from manifill.photos.crops import Region, bounds, meet
from manifill.photos.tensors import enlarge

LEAST = 0.02  # fraction of a source that is worth the work
SUPPORT = 3  # pixels of the model's size: how far scaling up looks, and those that the hole touches
FLAT = 5.0  # grey levels: a photo that deviates by less along a hole's border is flat there
FAINT = 6.0  # grey levels: what a painter adds to flat ground that is fainter is no cloud
SOURCES = 4  # known cells whose details a cell mixes: an average of many is no detail


class Residual:
    """What scaling down takes from the known pixels of a square, to be carried into its hole.

    `fine` is int16, zero in and beside the hole, and in a margin, as the patches of cells overlap by a quarter on all
    sides. A hole takes its details from few cells, so that each is computed when it is first asked for.
    """

    def __init__(self, square: np.ndarray, hole: np.ndarray, low: np.ndarray, cells: int) -> None:
        """Take a square, uint8 (side, side, 3), its hole, bool (side, side), and the same scaled down, `low`."""
        side, self.cells, self.pitch = len(square), cells, len(square) / cells
        self.rim = math.ceil(self.pitch / 4)
        self.reach = 2 * self.rim + math.ceil(self.pitch)
        self.square, self.low, self.ready = square, low.astype(np.float32), set[int]()
        self.fine = np.zeros((self.rim + side + self.reach,) * 2 + (3,), np.int16)
        self.known = np.ones((side, side), np.bool_)
        if hole.any():
            near = math.ceil(SUPPORT * side / len(low))
            box = tuple(slice(max(0, s.start - near), s.stop + near) for s in bounds(hole))
            self.known[box] = ~widened(hole[box], near)

    def patch(self, cell: int) -> np.ndarray:
        """Return the details of a cell and its surroundings, int16 (reach, reach, 3)."""
        region = self.place(cell)
        if cell not in self.ready:
            self.ready.add(cell)
            rows, columns = (
                slice(max(0, s.start - self.rim), min(s.stop - self.rim, len(self.square))) for s in region
            )
            details = self.square[rows, columns] - enlarge(self.low, len(self.square), rows, columns)
            inside = tuple(slice(s.start + self.rim, s.stop + self.rim) for s in (rows, columns))
            self.fine[inside] = np.rint(details) * self.known[rows, columns, None]
        return self.fine[region]

    def place(self, cell: int) -> Region:
        """Return where in `fine` a cell and its surroundings are."""
        y, x = (round(i * self.pitch) for i in divmod(cell, self.cells))
        return slice(y, y + self.reach), slice(x, x + self.reach)

    def carried(self, which: np.ndarray, shares: np.ndarray, box: Region) -> np.ndarray:
        """Put a mixture of its sources' details in every cell's place: contextual residual aggregation (HiFill, 2020).

        `which` and `shares` (cells * cells, k) are from `detail_sources`; returns what lies in a box of the square,
        float32 (h, w, 3).
        """
        rows, columns = (slice(s.start + self.rim, s.stop + self.rim) for s in box)
        total = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 3), np.float32)
        weight = np.zeros(total.shape[:2], np.float32)
        ramp = np.minimum(np.arange(1, self.reach + 1), np.arange(self.reach, 0, -1)).clip(max=2 * self.rim)
        window = np.outer(ramp, ramp).astype(np.float32)
        for q in np.flatnonzero(shares.any(1)):
            meeting = meet(self.place(int(q)), (rows, columns))
            if meeting is not None:
                here, there = meeting
                for k in np.flatnonzero(shares[q] > LEAST):
                    source = self.patch(int(which[q, k]))
                    total[there] += (shares[q, k] * window[here])[..., None] * source[here]
                weight[there] += window[here]
        return total / np.maximum(weight, 1)[..., None]


def widened(hole: np.ndarray, pixels: int) -> np.ndarray:
    """Grow a hole (bool) by so many pixels on all sides: beside it, scaling up mixes in what lies in it."""
    import cv2

    return cv2.dilate(hole.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


def detail_sources(structure: Tensor, hole: np.ndarray, fuse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return known cells that each cell of the hole is made of by structural attention (Eq. 5-7), and their shares.

    `structure` (1, D, h, w), `hole` bool (h, w); both results are (h*w, k), the shares zero outside the hole. The cells
    are drawn by their attention, so that cells which look alike do not all take the same ones; the squares of a cell's
    shares add up to one, as then do those of the details of different places that they mix.
    """
    inner = ~widened(hole, 1)  # beside the hole, details are not known
    usable = torch.from_numpy((inner if inner.any() else ~hole).ravel()).to(structure.device)
    scores = cell_scores(structure, fuse)[0].masked_fill(~usable[None], -torch.inf)
    attention = (50 * scores).log_softmax(1).cpu()
    noise = -torch.empty(attention.shape).exponential_(generator=torch.Generator().manual_seed(0)).log()
    which = (attention + noise).topk(min(SOURCES, hole.size), dim=1).indices
    weights = attention.gather(1, which).exp().numpy() * hole.ravel()[:, None]
    return which.numpy(), weights / np.maximum(np.sqrt((weights**2).sum(1, keepdims=True)), 1e-6)


def gains(picture: np.ndarray, which: np.ndarray, cells: int) -> np.ndarray:
    """Return how much of its sources' details each cell takes, (h*w, k) in [0, 1]: less where it is the smoother one.

    `picture` float32 (S, S, 3), the completed crop at the model's size; contrast there foretells that of the details.
    """
    import cv2

    fine = ((picture - cv2.GaussianBlur(picture, (0, 0), 1.0)) ** 2).mean(2)
    contrast = np.sqrt(cv2.resize(fine, (cells, cells), interpolation=cv2.INTER_AREA)).ravel() + 1e-3
    return np.minimum(1, contrast[:, None] / contrast[which])


class Membrane:
    """The smooth function in a hole that takes given values around it: gradient-domain pasting (Perez et al., 2003).

    Built once for a hole, bool (S, S); the picture's border does not pull.
    """

    def __init__(self, hole: np.ndarray) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.linalg import splu

        self.hole, n = hole, int(hole.sum())
        number = np.full(hole.shape, -1)
        number[hole] = np.arange(n)
        here, there = _neighbours(number)
        inside = there >= 0
        known = number.ravel() < 0
        self.grounded = bool(n) and bool(known.any())
        if not self.grounded:
            return
        rows, columns = np.concatenate([here[inside], np.arange(n)]), np.concatenate([there[inside], np.arange(n)])
        degree = np.bincount(here, minlength=n)
        values = np.concatenate([np.full(inside.sum(), -1.0), degree.astype(float)])
        self.solve = splu(coo_array((values, (rows, columns)), shape=(n, n)).tocsc()).solve

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Continue `values` float (S, S, C), read outside the hole, into it: (S, S, C), zero outside."""
        result = np.zeros_like(values)
        if self.grounded:
            around = np.where(self.hole[..., None], 0, values)
            padded = np.pad(around, ((1, 1), (1, 1), (0, 0)))
            sums = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
            result[self.hole] = self.solve(sums[self.hole].astype(np.float64))
        return result


class Border:
    """What painted pictures of one photo lack in colour along the border of a hole, for a Membrane.

    On textured ground it is the photo's colours less the painted ones outside, which keeps the painted texture. On flat
    ground the eye sees the jump from the photo to what is painted *inside*, which the painter need not have reproduced:
    there it is the difference of the means of two rings on either side, smoothed along the border.
    """

    def __init__(self, low: np.ndarray, hole: np.ndarray) -> None:
        """Take a photo, uint8 (S, S, 3), and its hole, bool (S, S)."""
        self.photo, self.inner = low.astype(np.float32), widened(~hole, 2) & hole
        outer, around = widened(hole, 2) & ~hole, widened(hole, 4) & ~hole
        centred = self.photo - _mean_near(self.photo, around, 2.5)
        deviation = np.sqrt(_mean_near(centred**2, around, 2.5).mean(2, keepdims=True))
        self.flat = np.exp(-((deviation / FLAT) ** 2))
        self.outside = _mean_near(self.photo, outer, 2.0)

    def __call__(self, painted: np.ndarray) -> np.ndarray:
        """Return it for a painted picture, float32 (S, S, 3) in [0, 255]; only values outside the hole count."""
        across = self.outside - _mean_near(painted, self.inner, 2.0)
        return self.flat * across + (1 - self.flat) * (self.photo - painted)


def settled(picture: np.ndarray, ground: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Return a picture, float32 (S, S, 3), without what deviates faintly from `ground` (S, S, 3), the photo continued.

    A painter's lattice of two or three grey levels shows in a clear sky. `flat` (S, S, 1) in [0, 1] says where it does.
    What deviates strongly stays.
    """
    deviation = picture - ground
    energy = (deviation**2).mean(2, keepdims=True)
    return ground + deviation * energy / (energy + (FAINT * flat) ** 2 + 1e-6)


def _mean_near(values: np.ndarray, which: np.ndarray, sigma: float) -> np.ndarray:
    """Return the mean of those values (S, S, 3) that are marked, bool (S, S), by a Gaussian around every pixel."""
    import cv2

    weight = cv2.GaussianBlur(which.astype(np.float32), (0, 0), sigma)[..., None]
    return cv2.GaussianBlur(values * which[..., None], (0, 0), sigma) / np.maximum(weight, 1e-4)


def _neighbours(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every numbered pixel and every neighbour in the picture, (its number, the neighbour's or -1)."""
    pairs = [
        (number[1:], number[:-1]),
        (number[:-1], number[1:]),
        (number[:, 1:], number[:, :-1]),
        (number[:, :-1], number[:, 1:]),
    ]
    here = np.concatenate([a.ravel() for a, _ in pairs])
    there = np.concatenate([b.ravel() for _, b in pairs])
    return here[here >= 0], there[here >= 0]


def fading(hole: np.ndarray, pixels: int) -> np.ndarray:
    """Return one at the border of a hole (bool), falling to zero `pixels` inside it: float32, same size."""
    import cv2

    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (1 - (depth - 0.5) / pixels).clip(0, 1).astype(np.float32)
