"""What a notebook shows of completions."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from manifill import Completion, Inpainter, Preview
from manifill.completion import screen_png


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def hole() -> np.ndarray:
    hole = np.zeros((80, 72), bool)
    hole[24:48, 24:40] = True
    return hole


def test_a_completion_shows_its_picture_and_says_little(
    inpainter: Inpainter, face: np.ndarray, hole: np.ndarray
) -> None:
    preview, completion = inpainter(face[:80, :72], hole, num_samples=1, seed=7).events()
    assert isinstance(preview, Preview)
    assert isinstance(completion, Completion)
    assert np.array_equal(opened(preview._repr_png_()), preview.structure)
    assert np.array_equal(opened(completion._repr_png_()), completion.image)
    assert re.fullmatch(r"Completion\(0 of .+, seed 7, log-likelihood -\d+\.\d\d\)", repr(completion))


def test_completions_show_their_grid(inpainter: Inpainter, face: np.ndarray, hole: np.ndarray) -> None:
    completions = inpainter(face[:80, :72], hole, num_samples=2, seed=7)
    grid = np.asarray(completions.grid())
    cells = [grid[4:84, 4 + k * 76 : 76 + k * 76] for k in range(3)]
    assert np.array_equal(cells[0], completions.masked())
    for cell, completion in zip(cells[1:], completions, strict=True):
        assert np.array_equal(cell, completion.image)
    assert np.array_equal(opened(completions._repr_png_()), grid)
    assert repr(completions).startswith("Completions(2 of ")


def test_large_and_deep_pictures_are_shown_small(inpainter: Inpainter, hole: np.ndarray) -> None:
    assert opened(screen_png(Image.new("RGB", (3000, 1500)))).size == (1024, 512)
    deep = np.full((80, 72), 40000, np.uint16)
    (completion,) = inpainter(deep, hole, num_samples=1, seed=0)
    assert opened(completion._repr_png_()).mode == "RGB"
