"""Which of many samples to keep: the best by a score, or those that differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best(scores: Sequence[float], keep: int) -> list[int]:
    """Return the indices of the `keep` highest scores, best first."""
    return [int(k) for k in np.argsort(-np.asarray(scores, float), kind="stable")[:keep]]


def farthest(features: np.ndarray, first: int, keep: int) -> list[int]:
    """Return `keep` indices by farthest-point selection: `first`, then ever the one farthest from all chosen.

    `features` (N, D); distances are Euclidean.
    """
    chosen = [first]
    nearest = np.full(len(features), np.inf)
    while len(chosen) < keep:
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(1))
        nearest[chosen] = -np.inf
        chosen.append(int(nearest.argmax()))
    return chosen
