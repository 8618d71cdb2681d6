"""Thin parts of a hole: told from wide ones, and filled from what is known around them, along edges."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from manifill.photos import thin
from manifill.photos.thin import fill_thin, thin_part

CAT = np.asarray(Image.open(Path(__file__).parent.parent / "pictures" / "cat.jpg"))
SHAPE = CAT.shape[:2]


def lines(width: int, count: int = 8, scale: int = 1) -> np.ndarray:
    """Return lines across a whole photo, bool (scale * H, scale * W)."""
    marks = np.zeros((SHAPE[0] * scale, SHAPE[1] * scale), np.uint8)
    random = np.random.default_rng(2)
    for middle, turn in zip(random.random((count, 2)) * SHAPE[::-1], random.random(count) * np.pi, strict=True):
        reach = np.array([np.cos(turn), np.sin(turn)]) * 999
        start, end = (tuple(int(v * scale) for v in middle + sign * reach) for sign in (-1, 1))
        cv2.line(marks, start, end, 1, width * scale)
    return marks > 0


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    hole = np.zeros(SHAPE, np.bool_)
    hole[top : top + height, left : left + width] = True
    return hole


def filled(photo: np.ndarray, hole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return a photo with the thin part of its hole filled."""
    result = photo.copy()
    assert len(list(fill_thin(result, hole, part))) >= 1
    return result


def psnr(result: np.ndarray, hole: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((result[hole].astype(float) - CAT[hole]) ** 2)))


@pytest.mark.parametrize("width", [2, 4])
def test_scratches_are_filled_better_than_by_telea(width: int) -> None:
    hole = lines(width)
    photo = np.where(hole[..., None], np.uint8(255), CAT)
    result = filled(photo, hole, hole)
    assert np.array_equal(result[~hole], CAT[~hole])
    telea = cv2.inpaint(photo, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    assert psnr(result, hole) > psnr(telea, hole) + 1


@pytest.mark.parametrize("scale", [1, 4])
def test_crossing_lines_are_thin_in_scans_of_any_size(scale: int) -> None:
    hole = lines(3, scale=scale)
    assert thin_part(hole).mean() > 0.98 * hole.mean()


@pytest.mark.parametrize("hole", [box(50, 60, 40, 90), box(0, 0, 30, 30), box(280, 0, 20, 451)])
def test_wide_parts_are_not_thin_nor_are_their_corners(hole: np.ndarray) -> None:
    assert not thin_part(hole).any()


def test_a_line_that_leads_into_a_wide_part_is_thin_but_for_its_end() -> None:
    wide, line = box(100, 100, 60, 60), box(130, 160, 3, 200)
    found = thin_part(wide | line)
    assert not (found & wide).any()
    assert found[130:133, 180:360].all()


def test_specks_are_thin_and_a_hole_without_surroundings_is_not() -> None:
    specks = np.random.default_rng(0).random(SHAPE) < 0.01
    assert np.array_equal(thin_part(specks), specks)
    assert not thin_part(np.ones((3, 90), np.bool_)).any()
    assert not thin_part(np.zeros((9, 9), np.bool_)).any()


@pytest.mark.parametrize("hole", [box(9, 20, 60, 3) | box(40, 9, 30, 30), box(0, 200, 80, 3) | box(60, 180, 60, 60)])
def test_what_is_far_from_a_hole_does_not_matter(hole: np.ndarray) -> None:
    """Its surroundings are cut off: in a large photo they are most of the work."""
    part, everywhere = thin_part(hole), thin._thin(hole, thin.widest(SHAPE) / 2 + 1)
    assert part.any()
    assert np.array_equal(part, everywhere)


def test_a_line_along_the_border_counts_as_wide_as_it_is_seen() -> None:
    assert thin_part(box(0, 0, 2, 451)).all(where=box(0, 0, 2, 451))


def test_neither_wide_holes_nor_what_lies_under_any_are_read() -> None:
    wide, line = box(100, 100, 60, 60), box(130, 0, 3, 451)
    hole = wide | line
    part = thin_part(hole)
    other = CAT.copy()
    other[hole] = 255 - other[hole]
    one, two = filled(CAT, hole, part), filled(other, hole, part)
    assert np.array_equal(one[part], two[part])
    assert np.array_equal(one[~part], CAT[~part])


def test_a_thin_part_that_nothing_known_touches_stays_finite() -> None:
    part = box(150, 150, 2, 20)
    assert filled(CAT, box(100, 100, 100, 200), part).shape == CAT.shape


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    hole = lines(3)
    whole = filled(CAT, hole, hole)
    monkeypatch.setattr(thin, "TILE", 64)
    difference = np.abs(filled(CAT, hole, hole).astype(int) - whole)[hole]
    assert np.quantile(difference, 0.99) <= 4


def dots(step: int) -> np.ndarray:
    """Return a pixel of every so many in both directions, as dithering marks them."""
    hole = np.zeros(SHAPE, np.bool_)
    hole[::step, ::step] = True
    return hole


@pytest.mark.parametrize("hole", [dots(2), np.random.default_rng(0).random(SHAPE) < 0.3], ids=["dots", "noise"])
def test_a_pattern_is_filled_with_means_of_what_is_around(hole: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million dots took seconds of diffusion along edges that nobody sees."""
    photo = np.where(hole[..., None], np.uint8(255), CAT)
    monkeypatch.setattr(thin, "_diffused", None)
    result = filled(photo, hole, hole)
    assert np.array_equal(result[~hole], CAT[~hole])
    telea = cv2.inpaint(photo, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    assert psnr(result, hole) > psnr(telea, hole) - 0.5


def test_a_pattern_in_a_hole_reads_nothing_of_it() -> None:
    part = dots(3)
    hole = part | box(20, 20, 200, 300)
    other = np.where(hole[..., None], 255 - CAT, CAT)
    one, two = filled(CAT, hole, part), filled(other, hole, part)
    assert np.array_equal(one[part], two[part])
