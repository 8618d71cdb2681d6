"""Batches: the same ones however pictures are held, cropped by rule; a broken picture gives way to another."""

from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from picture_sets import steps
from PIL import Image

from manifill.config import Crop
from manifill.data.batches import AHEAD, Batches
from manifill.data.dataset import Collection
from manifill.data.pictures import prepared, square, window
from manifill.data.sources import DataError, sources


@pytest.mark.parametrize("crop", get_args(Crop))
def test_batches_do_not_depend_on_how_pictures_are_held(photos: Path, crop: str) -> None:
    listing, which = sources([photos]), [0, 1, 2, 3, 9, 4, 20]
    held = Collection(listing, 32, crop, quiet=True)
    wanted = steps(Batches(held, 4, seed=3, flip=True), which)
    assert len({image for image, _ in wanted}) == len(which)
    for workers in (1, 2, 4):
        read = Collection(listing, 32, crop, in_memory=False)
        assert steps(Batches(read, 4, seed=3, flip=True, workers=workers), which) == wanted
        assert sorted(read.unreadable.names) == sorted(held.unreadable.names) != []
    assert held.listing_digest == read.listing_digest
    assert steps(Batches(held, 4, seed=4, flip=True), which) != wanted


def test_parts_of_a_batch_make_up_the_whole(photos: Path) -> None:
    read = Collection(sources([photos]), 32, "random", in_memory=False)
    with (
        Batches(read, 6, 0, True) as whole,
        Batches(read, 6, 0, True, (0, 2)) as one,
        Batches(read, 6, 0, True, (1, 2)) as two,
    ):
        for step in (0, 1, 7):
            (x, rng), (a, r), (b, s) = whole(step), one(step), two(step)
            assert torch.equal(x, torch.cat([a, b]))
            assert rng.random() == r.random() == s.random()
    with pytest.raises(DataError, match="a batch of 6 pictures cannot be divided among 4"):
        Batches(read, 6, 0, True, (0, 4))


def test_few_batches_are_decoded_ahead(photos: Path) -> None:
    read, asked = Collection(sources([photos]), 32, "centre", in_memory=False), []

    def counted(index: int) -> np.ndarray:
        asked.append(index)
        return np.zeros((32, 32, 3), np.uint8)

    read.prepared = counted  # type: ignore[method-assign]
    with Batches(read, 2, 0, False, workers=2) as batches:
        for step in range(3):
            batches(step)
    assert 6 <= len(asked) <= 2 * (3 + AHEAD)


def test_an_epoch_shows_every_picture_once_and_another_for_a_broken_one(photos: Path) -> None:
    held = Collection(sources([photos]), 32, "squeeze", quiet=True)
    readable = {p.tobytes() for k in range(30) if (p := held.prepared(k)) is not None}
    with Batches(held, 5, 0, False) as batches:
        shown = [
            ((row.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy().tobytes()
            for s in range(6)
            for row in batches(s)[0]
        ]
    assert set(shown) == readable
    assert (len(shown), len(readable)) == (30, 28)


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def test_crops() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (60, 100, 3), np.uint8)
    assert np.array_equal(prepared(encoded(wide), 32, "random"), wide)  # the paper does not scale Places2, ImageNet
    assert np.array_equal(square(encoded(wide), 32, "random"), wide[14:46, 34:66])
    places = [window(wide, 32, np.array(p)) for p in ((0, 0), (0.9999, 0.9999), (0.5, 0.5))]
    assert np.array_equal(places[0], wide[:32, :32])
    assert np.array_equal(places[1], wide[28:, 68:])
    assert np.array_equal(places[2], wide[14:46, 34:66])
    assert prepared(encoded(wide), 80, "random").shape == (80, 133, 3)  # too small for a window
    assert prepared(encoded(wide), 256, "jitter").shape == (266, 266, 3)  # the paper's CelebA-HQ
    assert np.array_equal(square(encoded(wide), 32, "jitter"), square(encoded(wide), 32, "squeeze"))
    whole = np.asarray(Image.fromarray(wide).resize((32, 32), Image.Resampling.LANCZOS))
    assert np.array_equal(prepared(encoded(wide), 32, "squeeze"), whole)


def test_windows_differ_by_place_and_step_and_follow_from_the_seed(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    for k in range(4):
        Image.fromarray(np.dstack([rows, columns, 0 * rows])).save(tmp_path / f"{k}.png")
    read = Collection(sources([tmp_path]), 32, "random", in_memory=False)
    with Batches(read, 2, 0, False) as batches, Batches(read, 2, 1, False) as others:
        corners = [tuple(row[:2, 0, 0].tolist()) for step in range(8) for row in batches(step)[0]]
        again = [tuple(row[:2, 0, 0].tolist()) for step in (7, 2) for row in batches(step)[0]]
        other = [tuple(row[:2, 0, 0].tolist()) for step in range(8) for row in others(step)[0]]
    assert len(set(corners + other)) == 32
    assert again == corners[14:] + corners[4:6]


def test_large_jpegs_are_decoded_small_and_look_the_same(face: np.ndarray) -> None:
    large = np.asarray(Image.fromarray(face).resize((1024, 1024), Image.Resampling.BICUBIC))
    quick, exact = square(encoded(large, "JPEG"), 64), Image.open(io.BytesIO(encoded(large, "JPEG"))).convert("RGB")
    difference = quick - np.asarray(exact.resize((64, 64), Image.Resampling.LANCZOS)).astype(float)
    assert abs(difference).mean() < 1
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(deep, "PNG")
    with pytest.raises(ValueError, match="pixel format I;16; expected 8 bits"):
        square(deep.getvalue(), 32)
