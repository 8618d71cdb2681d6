"""What the page of differences from the paper says of completions."""

from __future__ import annotations

import numpy as np

from manifill.inpainter import Inpainter


def test_nothing_of_the_hole_leaks_into_its_completions(inpainter: Inpainter, face: np.ndarray) -> None:
    hole = np.zeros(face.shape[:2], np.bool_)
    hole[30:90, 40:80] = True
    other = np.where(hole[..., None], np.random.default_rng(0).integers(0, 256, face.shape, np.uint8), face)
    for known in ("exact", "cells", "none"):
        both = [next(iter(inpainter(p, hole, num_samples=1, seed=0, known_codes=known))) for p in (face, other)]
        assert np.array_equal(both[0].codes, both[1].codes)
        assert np.array_equal(both[0].rgb, both[1].rgb)
