"""Photo, mask and seeds in; completions out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import ImageError, Inpainter, ModelError
from manifill.inpainter import bundled


def hole_of(size: int) -> np.ndarray:
    hole = np.zeros((size, size), np.bool_)
    hole[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
    return hole


@pytest.mark.parametrize("size", [33, 64, 128, 500])
def test_known_pixels_are_untouched_at_any_square_size(inpainter: Inpainter, face: np.ndarray, size: int) -> None:
    photo = np.asarray(Image.fromarray(face).resize((size, size)))
    hole = hole_of(size)
    (completion,) = inpainter(photo, hole, num_samples=1, seed=0)
    result = np.asarray(completion.image)
    assert result.shape == (size, size, 3)
    assert np.array_equal(result[~hole], photo[~hole])
    assert (result[hole] != photo[hole]).any()


def test_sample_k_depends_on_its_seed_alone(inpainter: Inpainter, face: np.ndarray) -> None:
    many = list(inpainter(face, hole_of(128), num_samples=20, seed=5))
    assert [c.seed for c in many] == list(range(5, 25))
    for k in (0, 3, 19):  # the last of them in another batch
        (one,) = inpainter(face, hole_of(128), num_samples=1, seed=5 + k)
        assert np.array_equal(one.codes, many[k].codes)
        assert np.abs(np.asarray(one.image).astype(int) - np.asarray(many[k].image)).max() <= 1
        assert one.log_likelihood == pytest.approx(many[k].log_likelihood, abs=1e-4)


def test_completions_come_one_by_one(inpainter: Inpainter, face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    painted = []
    paint = inpainter.paint
    monkeypatch.setattr(inpainter, "paint", lambda *a: painted.append(1) or paint(*a))
    results = iter(inpainter(face, hole_of(128), num_samples=4, seed=0))
    next(results)
    assert len(painted) == 1


def test_what_a_completion_carries(inpainter: Inpainter, face: np.ndarray) -> None:
    completions = inpainter(face, hole_of(128), num_samples=2, seed=0, temperature=0.9, top_k=10, top_p=0.9)
    assert (completions.options.temperature, completions.options.top_k, completions.options.top_p) == (0.9, 10, 0.9)
    for c in completions:
        assert c.codes.shape == (8, 8)
        assert c.structure.size == (64, 64)
        assert c.image.size == (128, 128)
        assert c.log_likelihood < 0


@pytest.mark.parametrize("seed", [None, -1])
def test_no_seed_draws_one_that_can_be_used_again(inpainter: Inpainter, face: np.ndarray, seed: int | None) -> None:
    first = inpainter(face, hole_of(128), num_samples=1, seed=seed)
    assert first.seeds != inpainter(face, hole_of(128), num_samples=1, seed=seed).seeds
    (a,), (b,) = first, inpainter(face, hole_of(128), num_samples=1, seed=first.seeds[0])
    assert np.array_equal(np.asarray(a.image), np.asarray(b.image))


def test_what_is_under_the_hole_does_not_matter(inpainter: Inpainter, face: np.ndarray) -> None:
    hole = hole_of(128)
    other = np.where(hole[..., None], np.uint8(77), face)
    (a,), (b,) = (inpainter(p, hole, num_samples=1, seed=0) for p in (face, other))
    assert np.array_equal(np.asarray(a.image), np.asarray(b.image))


def test_bad_calls(inpainter: Inpainter, face: np.ndarray) -> None:
    with pytest.raises(ImageError, match="128x100 pixels; only square"):
        inpainter(face[:100], hole_of(128)[:100])
    with pytest.raises(ImageError, match="mask of 64x64 pixels; the photo has 128x128"):
        inpainter(face, hole_of(64))
    with pytest.raises(ImageError, match="no hole"):
        inpainter(face, np.zeros((128, 128), np.bool_))
    with pytest.raises(ValueError, match="num_samples is 0"):
        inpainter(face, hole_of(128), num_samples=0)
    with pytest.raises(ValueError, match="seed is -2"):
        inpainter(face, hole_of(128), seed=-2)
    with pytest.raises(ModelError, match="no such model folder, nor a bundled model"):
        Inpainter.from_pretrained("faces-999")


@pytest.fixture(scope="module")
def faces() -> Inpainter:
    assert "faces-128" in bundled()
    return Inpainter.from_pretrained("faces-128", "cpu")


def test_the_bundled_model_is_small(faces: Inpainter) -> None:
    import manifill

    folder = Path(manifill.__file__).parent / "pretrained" / "faces-128"
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 40e6


def test_eight_samples_of_the_bundled_model_differ(faces: Inpainter, face: np.ndarray) -> None:
    completions = list(faces(face, hole_of(128), num_samples=8, seed=0))
    codes = np.stack([c.codes[4:12, 4:12] for c in completions])
    for i in range(8):
        for j in range(i):
            assert (codes[i] != codes[j]).mean() > 0.5
    images = np.stack([np.asarray(c.image) for c in completions]).astype(float)[:, 32:96, 32:96]
    assert images.std(0).mean() > 4  # in grey levels: different to the eye
    assert np.abs(images.mean((0, 1, 2)) - face[32:96, 32:96].mean((0, 1))).max() < 30  # and coloured like a face
