"""Photo, mask and seeds in; completions out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manifill import ImageError, Inpainter, ModelError
from manifill.inpainter import bundled
from manifill.model import AT_ONCE
from manifill.photos.tensors import to_model
from manifill.sampling.cached import sample_cached

MODES = ("exact", "cells", "none")


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
        assert c.codes.shape == (1, 8, 8)
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
    with pytest.raises(ImageError, match="no hole"):
        inpainter(face, np.zeros((128, 128), np.bool_))
    with pytest.raises(ValueError, match="num_samples is 0"):
        inpainter(face, hole_of(128), num_samples=0)
    with pytest.raises(ValueError, match="seed is -2"):
        inpainter(face, hole_of(128), seed=-2)
    with pytest.raises(ModelError, match="no such model folder, nor a bundled model"):
        Inpainter.from_pretrained("faces-999")
    with pytest.raises(ValueError, match="known_codes is 'some'; expected exact, cells or none"):
        inpainter(face, hole_of(128), known_codes="some")  # type: ignore[arg-type]


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
    codes = np.stack([c.codes[0, 4:12, 4:12] for c in completions])
    for i in range(8):
        for j in range(i):
            assert (codes[i] != codes[j]).mean() > 0.5
    images = np.stack([np.asarray(c.image) for c in completions]).astype(float)[:, 32:96, 32:96]
    assert images.std(0).mean() > 4  # in grey levels: different to the eye
    assert np.abs(images.mean((0, 1, 2)) - face[32:96, 32:96].mean((0, 1))).max() < 30  # and coloured like a face


def corner_hole() -> np.ndarray:
    hole = np.zeros((128, 128), np.bool_)
    hole[:16, :16] = True
    return hole


def test_known_codes(faces: Inpainter, face: np.ndarray) -> None:
    hole = corner_hole()
    image, mask = to_model(face, hole, 128)
    true = faces.vqvae.encode(image).structure_codes[0].numpy()
    drawn = {mode: next(iter(faces(face, hole, num_samples=1, seed=0, known_codes=mode))) for mode in MODES}
    exact, cells = faces.known(image, mask, "exact"), faces.known(image, mask, "cells")
    assert exact is not None
    assert cells is not None
    assert faces.known(image, mask, "none") is None
    fixed = (exact[0] >= 0).numpy()
    assert 0 < fixed.sum() < (cells >= 0).sum() == 256 - 4
    assert np.array_equal(drawn["exact"].codes[0][fixed], true[fixed])  # what the photo has, hole or not
    assert (drawn["none"].codes[0][fixed] != true[fixed]).any()
    assert np.array_equal(drawn["cells"].codes[0, 2:], cells[0, 2:].numpy())
    for completion in drawn.values():
        assert completion.log_likelihood < 0


def test_codes_are_the_same_without_the_native_sampler(faces: Inpainter, face: np.ndarray) -> None:
    slow = Inpainter.from_pretrained("faces-128", "cpu")
    codebook = slow.vqvae.encoder.structure_quantiser.codebook
    slow.sampler = partial(sample_cached, slow.structure, codebook)
    (a,), (b,) = (m(face, corner_hole(), num_samples=1, seed=3) for m in (faces, slow))
    assert np.array_equal(a.codes, b.codes)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype(faces: Inpainter, face: np.ndarray, dtype: torch.dtype) -> None:
    other = Inpainter.from_pretrained("faces-128", "cpu", dtype)
    (a,), (b,) = (m(face, corner_hole(), num_samples=1, seed=3) for m in (faces, other))
    if dtype == torch.float32:  # drawn alike, painted in another precision
        assert np.array_equal(a.codes, b.codes)
        assert np.abs(np.asarray(a.image).astype(int) - np.asarray(b.image)).mean() < 1
    with pytest.raises(ValueError, match=r"dtype is torch\.float64"):
        Inpainter.from_pretrained("faces-128", "cpu", torch.float64)


def test_little_memory_means_small_batches(faces: Inpainter, face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faces.at_once == AT_ONCE
    wanted = [c.codes for c in faces(face, corner_hole(), num_samples=3, seed=0)]
    monkeypatch.setattr("manifill.model.free_memory", lambda _: 0)
    assert faces.at_once == 1
    found = [c.codes for c in faces(face, corner_hole(), num_samples=3, seed=0)]
    assert np.array_equal(wanted, found)
