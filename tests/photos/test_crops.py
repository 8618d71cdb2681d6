"""Where to look: squares that together fill the hole exactly once, inside the photo where they fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifill.config import Fit
from manifill.photos import crops
from manifill.photos.crops import Crop, Parts, dilated, meet, mirrored, move_inside, plan, square_at, tiles

SIZE = 64


def around(hole: np.ndarray, size: int, margin: int | None) -> Iterator[Crop]:
    """Return the crops around the parts of a hole."""
    parts = Parts.of(hole)
    assert parts is not None
    return crops.around(parts, hole, size, margin)


def blob(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return a hole of boxes (top, left, height, width), bool (H, W)."""
    hole = np.zeros(shape, np.bool_)
    for top, left, height, width in boxes:
        hole[top : top + height, left : left + width] = True
    return hole


def covered(crops: list[Crop], shape: tuple[int, int]) -> np.ndarray:
    """Return how many crops fill each pixel, int (H, W)."""
    count = np.zeros(shape, int)
    for crop in crops:
        count[crop.rows, crop.columns] += crop.own
    return count


HOLES = {
    "one": blob((300, 400), (100, 150, 50, 40)),
    "three": blob((300, 400), (10, 10, 30, 30), (200, 300, 60, 20), (30, 60, 10, 90)),
    "wide": blob((100, 800), (40, 10, 20, 780)),
    "tall": blob((800, 100), (10, 40, 780, 20)),
    "all": np.ones((90, 200), np.bool_),
    "border": blob((300, 400), (0, 0, 300, 5), (0, 395, 300, 5)),
    "pixel": blob((300, 400), (299, 399, 1, 1)),
    "tiny": blob((20, 30), (5, 5, 6, 7)),
    "ring": blob((300, 300), (50, 50, 200, 200)) & ~blob((300, 300), (60, 60, 180, 180)),
    "specks": np.random.default_rng(0).random((200, 300)) < 0.01,
}
STRATEGIES = ["auto", "crop", "resize", "original"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", HOLES)
@pytest.mark.parametrize("margin", [None, 0, 7, 1000])
def test_crops_fill_the_hole_exactly_once(name: str, strategy: str, margin: int | None) -> None:
    hole = HOLES[name]
    crops = plan(hole, SIZE, Fit(strategy=strategy, crop_margin=margin))  # type: ignore[arg-type]
    assert np.array_equal(covered(crops, hole.shape), hole.astype(int))  # type: ignore[arg-type]


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_crops_of_any_hole(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(8, 300), st.integers(8, 300)))
    boxes = data.draw(
        st.lists(st.tuples(*(st.integers(0, 290),) * 2, *(st.integers(1, 120),) * 2), min_size=1, max_size=9)
    )
    hole = blob(shape, *boxes)
    if not hole.any():
        return
    for strategy in STRATEGIES:
        crops = plan(hole, SIZE, Fit(strategy=strategy))  # type: ignore[arg-type]
        assert np.array_equal(covered(crops, shape), hole.astype(int))
        for crop in crops:
            inside(crop, hole)


def inside(crop: Crop, hole: np.ndarray) -> None:
    """Check that a square lies in the photo along each side that is long enough, over the middle of it else."""
    for start, size in ((crop.top, hole.shape[0]), (crop.left, hole.shape[1])):
        if crop.side <= size:
            assert 0 <= start <= size - crop.side
        else:
            assert start == (size - crop.side) // 2
    assert (crop.rows.start, crop.rows.stop) == (max(crop.top, 0), min(crop.top + crop.side, hole.shape[0]))
    assert crop.own.shape == hole[crop.rows, crop.columns].shape
    assert not (crop.own & ~hole[crop.rows, crop.columns]).any()


@pytest.mark.parametrize("name", [name for name in HOLES if name != "specks"])
def test_a_crop_is_at_least_of_the_models_size_and_shows_context(name: str) -> None:
    hole = HOLES[name]
    for crop in around(hole, SIZE, None):
        assert crop.side >= min(SIZE, *hole.shape)
        rows, columns = crop.box()
        extent = max(rows.stop - rows.start, columns.stop - columns.start)
        assert crop.side >= extent
        if 3 * extent < min(hole.shape):  # half the extent on either side, and no more than the model needs
            assert crop.side >= 2 * extent - 1


def test_the_margin_is_on_each_side() -> None:
    (crop,) = around(blob((500, 600), (200, 250, 90, 70)), SIZE, 40)
    assert crop.side == 90 + 80
    assert (crop.top, crop.left) == (200 + 45 - 85, 250 + 35 - 85)


def test_holes_that_share_context_are_completed_together() -> None:
    near = blob((600, 600), (200, 200, 60, 60), (220, 262, 15, 15))
    far = blob((600, 600), (100, 100, 60, 60), (450, 450, 20, 20))
    assert len(list(around(near, SIZE, None))) == 1
    assert len(list(around(far, SIZE, None))) == 2


@pytest.mark.parametrize("name", ["one", "three", "ring", "wide"])
def test_mirrored_photos_have_mirrored_crops(name: str) -> None:
    hole = HOLES[name]
    seen = {(c.side, *crop_box(c)) for c in around(hole, SIZE, None)}
    for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T):
        turned = np.ascontiguousarray(turn(hole))
        again = {(c.side, *crop_box(c, turn, hole.shape)) for c in around(turned, SIZE, None)}
        assert again == seen


def crop_box(crop: Crop, turn: object = None, shape: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return (top, left, height, width) of what a crop fills, turned back."""
    if turn is None:
        rows, columns = crop.box()
        return rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
    filled = np.zeros(turn(np.empty(shape)).shape, np.bool_)  # type: ignore[operator]
    filled[crop.rows, crop.columns] = crop.own
    back = turn(filled)  # type: ignore[operator]
    rows, columns = np.flatnonzero(back.any(1)), np.flatnonzero(back.any(0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_small_crops_come_first() -> None:
    sides = [crop.side for crop in plan(HOLES["three"], SIZE, Fit(strategy="crop"))]
    assert sides == sorted(sides)
    assert len(sides) > 1


def test_auto_takes_small_squares_whole() -> None:
    small, large = blob((256, 256), (100, 100, 9, 9)), blob((257, 257), (100, 100, 9, 9))
    assert plan(small, SIZE, Fit())[0].side == 256
    assert plan(large, SIZE, Fit())[0].side == 64
    assert plan(blob((64, 65), (9, 9, 9, 9)), SIZE, Fit())[0].side == 64


@pytest.mark.parametrize("name", HOLES)
def test_tiles_fill_their_middle_and_are_never_scaled(name: str) -> None:
    hole = HOLES[name]
    for crop in tiles(hole, SIZE):
        assert crop.side == SIZE
        rows, columns = crop.box()
        assert max(rows.stop - rows.start, columns.stop - columns.start) <= SIZE // 2
        if (
            min(hole.shape) > 3 * SIZE
            and 32 < rows.start < hole.shape[0] - 64
            and 32 < columns.start < hole.shape[1] - 64
        ):
            assert rows.start - crop.top >= SIZE // 4
            assert columns.start - crop.left >= SIZE // 4


@pytest.mark.parametrize(("start", "count", "size"), [(-3, 12, 5), (0, 5, 5), (-50, 120, 7), (-1, 3, 1), (4, 9, 8)])
def test_mirroring_folds_back_at_the_borders(start: int, count: int, size: int) -> None:
    found = mirrored(start, count, size)
    photo = np.arange(size)
    wide = np.pad(photo, (200, 200), mode="symmetric")
    assert np.array_equal(found, wide[200 + start : 200 + start + count])


def test_a_square_beyond_the_border_is_mirrored() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    crop = square_at(-10, 0, 50, np.ones((30, 50), np.bool_))
    assert np.array_equal(crop.cut(photo), np.pad(photo, ((10, 10), (0, 0), (0, 0)), mode="symmetric"))
    inner = square_at(3, 4, 20, np.ones((30, 50), np.bool_))
    assert np.array_equal(inner.cut(photo), photo[3:23, 4:24])


def test_rectangles_meet_where_both_are() -> None:
    spans = [slice(a, b) for a, b in ((0, 5), (3, 9), (5, 7), (8, 9))]
    for ay, ax, by, bx in itertools.product(spans, repeat=4):
        a, b = (ay, ax), (by, bx)
        first, second = np.zeros((10, 10), np.bool_), np.zeros((10, 10), np.bool_)
        first[a], second[b] = True, True
        meeting = meet(a, b)
        assert (meeting is None) == (not (first & second).any())
        if meeting is not None:
            here, there = np.zeros((10, 10), np.bool_), np.zeros((10, 10), np.bool_)
            here[a][meeting[0]], there[b][meeting[1]] = True, True
            assert np.array_equal(here, first & second)
            assert np.array_equal(there, first & second)


def test_which_crops_see_what_others_fill() -> None:
    hole = blob((300, 300), (100, 100, 20, 20), (100, 180, 20, 20))
    left, right = square_at(90, 90, 64, hole), square_at(90, 150, 64, hole)
    far = square_at(200, 200, 64, blob((300, 300), (210, 210, 5, 5)))
    assert not left.overlaps(far)
    assert right.overlaps(right)
    assert not left.overlaps(right)  # its square ends before what the other fills
    wide = square_at(80, 80, 128, hole)
    assert wide.overlaps(right)
    unknown = wide.own.copy()
    right.remove_own(unknown, wide)
    assert unknown.sum() == 400


@pytest.mark.parametrize("pixels", [0, 1, 5])
def test_a_hole_grows_by_a_disc(pixels: int) -> None:
    grown = dilated(blob((60, 60), (30, 30, 1, 1)), pixels)
    y, x = np.nonzero(grown)
    assert (np.hypot(y - 30, x - 30) <= pixels + 0.5).all()
    assert np.ptp(y) == np.ptp(x) == 2 * pixels
    assert grown[30, 30]


def test_where_a_stretch_is_placed() -> None:
    assert [move_inside(s, 4, 10) for s in (-3, 0, 3, 9)] == [0, 0, 3, 6]
    assert move_inside(2, 10, 4) == -3
