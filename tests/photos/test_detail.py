"""Back at the photo's size: no blur where the photo is sharp, no step at the border where colours are adapted."""

from __future__ import annotations

import cv2
import numpy as np
import photo_files as photos
import pytest
import torch

from manifill import Fit, Inpainter
from manifill.photos.crops import Crop, square_at
from manifill.photos.detail import Border, Membrane, Residual, detail_sources, fading, gains
from manifill.photos.tensors import enlarge, shrink
from manifill.photos.view import View

PLAIN = Fit(seamless=False, detail=False)


def middle(side: int) -> np.ndarray:
    """Return a hole of a quarter of a square, bool (side, side)."""
    hole = np.zeros((side, side), np.bool_)
    hole[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    return hole


def texture(side: int) -> np.ndarray:
    """Return the same rough texture everywhere, uint8 (side, side, 3)."""
    rough = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (side, side, 3)), (0, 0), 1)
    return (120 + 25 * rough / rough.std()).clip(0, 255).astype(np.uint8)


def composed(photo: np.ndarray, crop: Crop, full: np.ndarray) -> np.ndarray:
    """Put what was painted into a photo, float32 (H, W, 3)."""
    result = photo.astype(np.float32)
    rows, columns = crop.box()
    which = crop.owned(rows, columns)
    result[rows, columns][which] = full[which]
    return result


def energy(picture: np.ndarray, where: np.ndarray) -> float:
    """Return the energy of fine details, whose wavelength is a few pixels, in part of a picture."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 4)
    return float(((picture - smooth)[where] ** 2).mean())


STRUCTURES = {
    "different": torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(1)),
    "alike": torch.ones(1, 32, 8, 8),
    "nearly alike": 1 + 0.1 * torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(2)),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("side", [256, 700])
def test_a_hole_in_a_texture_becomes_as_rough_as_what_is_around_it(name: str, side: int) -> None:
    photo, hole = texture(side), middle(side)
    crop = square_at(0, 0, side, hole)
    view = View(crop, lambda: photo, hole, 64)
    known = view.low[~view.low_hole].astype(np.float32)
    rng = np.random.default_rng(3)
    painted = np.where(view.low_hole[..., None], rng.choice(known, (64, 64)), view.low).astype(np.float32)
    inside = cv2.erode(hole.astype(np.uint8), np.ones((17, 17))) > 0
    outside = cv2.erode((~hole).astype(np.uint8), np.ones((17, 17)), borderValue=1) > 0
    wanted = energy(photo, outside)
    for fit, low, high in ((Fit(detail=False), 0, 0.3), (Fit(), 0.6, 1.3)):
        full = view.finish(painted, STRUCTURES[name], True, fit)
        assert low <= energy(composed(photo, crop, full), inside) / wanted <= high


def test_details_come_from_known_pixels_alone() -> None:
    photo, hole = texture(256), middle(256)
    crop = square_at(0, 0, 256, hole)
    other = np.where(hole[..., None], np.uint8(255), photo)
    painted = np.full((64, 64, 3), 120, np.float32)
    one, two = (
        View(crop, lambda p=p: p, hole, 64).finish(painted, STRUCTURES["alike"], True, Fit()) for p in (photo, other)
    )
    assert np.array_equal(one, two)


def test_a_smooth_place_takes_no_rough_details() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((64, 64, 3), 100, np.float32)
    picture[:, :32] += rng.normal(0, 20, (64, 32, 3))  # rough on the left
    which = np.array([[0], [7]] * 32)  # sources: a rough cell and a smooth one, by turns
    found = gains(picture, which, 8).reshape(8, 8)
    assert (found <= 1).all()
    assert found[:, 6].max() < 0.05  # smooth, from rough
    assert found[:, [1, 3]].min() == 1  # rough, from smooth


@pytest.mark.parametrize("fuse", [True, False])
def test_sources_are_known_cells_and_their_squares_add_up_to_one(fuse: bool) -> None:
    hole = middle(8)
    for structure in STRUCTURES.values():
        which, shares = detail_sources(structure, hole, fuse)
        assert which.shape == shares.shape == (64, 4)
        assert not hole.ravel()[which[hole.ravel()][shares[hole.ravel()] > 0]].any()
        assert np.allclose((shares**2).sum(1), hole.ravel())
        again = detail_sources(structure, hole, fuse)
        assert np.array_equal(which, again[0])
        assert np.array_equal(shares, again[1])


def test_cells_that_look_alike_take_different_sources() -> None:
    which, shares = detail_sources(STRUCTURES["alike"], middle(8), True)
    best = which[np.arange(64), shares.argmax(1)][middle(8).ravel()]
    assert len(set(best.tolist())) > 5


def test_what_is_carried_is_the_source() -> None:
    photo, hole = texture(128), middle(128)
    low, _ = shrink(photo, hole, 64)
    residual = Residual(photo, hole, low, 8)
    whole = slice(0, 128)
    which, shares = np.zeros((64, 1), int), np.zeros((64, 1), np.float32)
    q = 3 * 8 + 3  # a cell in the hole, from the cell at the top left
    shares[q] = 1
    found = residual.carried(which, shares, (whole, whole))
    fine = photo - enlarge(low.astype(np.float32), 128, whole, whole)
    assert np.abs(found[48:64, 48:64] - fine[:16, :16]).max() <= 0.51  # rounded
    assert not found[:40].any()
    part = residual.carried(which, shares, (slice(45, 60), slice(50, 70)))
    assert np.array_equal(part, found[45:60, 50:70])
    assert residual.ready == {0}  # what nobody takes is not computed


def harmonic(shape: tuple[int, int]) -> np.ndarray:
    """Return a function whose value is the mean of its four neighbours', (H, W, 1)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return (0.3 * x - 0.2 * y + 0.01 * (x**2 - y**2) + 0.02 * x * y)[..., None]


HOLES = {
    "middle": middle(40),
    "two": middle(40) & (np.arange(40) % 20 > 3),
    "disc": np.hypot(*(np.mgrid[:40, :40] - 20)) < 15,
}


@pytest.mark.parametrize("name", HOLES)
def test_a_membrane_is_harmonic_and_meets_its_border(name: str) -> None:
    hole = HOLES[name]
    values = harmonic(hole.shape)
    found = Membrane(hole)(np.where(hole[..., None], 1e6, values))
    assert np.abs(found - values)[hole].max() < 1e-6  # the one harmonic function with these border values
    assert not found[~hole].any()


def test_a_membrane_lies_between_the_values_around_it() -> None:
    hole = np.zeros((40, 40), np.bool_)
    hole[10:, 5:30] = True  # reaches the picture's border, which does not pull
    values = np.random.default_rng(0).normal(0, 9, (40, 40, 3))
    found = Membrane(hole)(values)
    around = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3))).astype(bool) & ~hole
    for k in range(3):
        assert values[around, k].min() <= found[hole, k].min()
        assert found[hole, k].max() <= values[around, k].max()
    constant = Membrane(hole)(np.full((40, 40, 1), 4.0))
    assert np.allclose(constant[hole], 4)


@pytest.mark.parametrize("share", [0, 1])
def test_a_membrane_of_nothing_and_of_everything_is_zero(share: int) -> None:
    assert not Membrane(np.full((8, 8), bool(share)))(np.ones((8, 8, 3))).any()


@pytest.mark.parametrize("pixels", [1, 3, 10])
def test_fading_ends_so_far_inside(pixels: int) -> None:
    found = fading(middle(64), pixels)
    assert found[16, 30] > 0
    line = found[16:48, 32]
    assert (np.diff(line[:16]) <= 0).all()
    assert (line[:16] > 0).sum() == min(pixels, 16)
    assert found[32, 32] == 0


def painted_with_a_step(side: int) -> tuple[View, Crop, np.ndarray, np.ndarray]:
    """Return (view, crop, photo, painted) of a smooth photo whose painted hole is 30 levels too bright."""
    y, x = np.mgrid[:side, :side]
    photo = np.dstack([60 + 100 * x / side, 60 + 100 * y / side, 128 + 0 * x]).astype(np.uint8)
    hole = middle(side)
    crop = square_at(0, 0, side, hole)
    view = View(crop, lambda: photo, hole, 64)
    full = shrink(photo, np.zeros_like(hole), 64)[0].astype(np.float32)
    return view, crop, photo, full + 30


def seam(photo: np.ndarray, result: np.ndarray, hole: np.ndarray, ring: int = 8) -> float:
    """Return the mean difference from the true photo in a ring of so many pixels inside the hole."""
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    where = hole & (depth <= ring)
    return float(np.abs(result - photo)[where].mean())


@pytest.mark.parametrize("side", [64, 128, 300])
def test_a_seamless_paste_removes_a_step(side: int) -> None:
    view, crop, photo, painted = painted_with_a_step(side)
    step, seamless, feathered = (
        seam(photo, composed(photo, crop, view.finish(painted, STRUCTURES["alike"], True, fit)), view.hole)
        for fit in (PLAIN, Fit(detail=False), Fit(feather=16, detail=False))
    )
    assert 28 < step < 32
    assert seamless < 3
    assert seamless < feathered < 0.75 * step


@pytest.mark.parametrize("feather", [1, 6, 20])
def test_feathering_touches_nothing_further_inside(feather: int) -> None:
    view, _, _, painted = painted_with_a_step(128)
    plain, faded = (
        view.finish(painted, STRUCTURES["alike"], True, fit) for fit in (PLAIN, Fit(feather=feather, detail=False))
    )
    depth = cv2.distanceTransform(middle(128).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[32:96, 32:96]
    changed = np.abs(plain - faded).max(2) > 1e-3
    assert not changed[depth > feather + 0.5].any()
    assert changed[depth < 1.5].all()


def step(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray, fit: Fit) -> float:
    """Return the mean step across a hole's border in a completion, in levels."""
    (completion,) = inpainter(photo, hole, num_samples=1, seed=0, fit=fit)
    down, right = (np.abs(np.diff(completion.rgb.astype(int), axis=axis)).mean(2) for axis in (0, 1))
    return float(np.concatenate([down[hole[1:] != hole[:-1]], right[hole[:, 1:] != hole[:, :-1]]]).mean())


def test_seams_of_completions_are_smaller_with_a_seamless_paste(inpainter: Inpainter) -> None:
    photo, hole = photos.face(200, 300), np.zeros((200, 300), np.bool_)
    hole[60:120, 100:180] = True
    assert step(inpainter, photo, hole, Fit()) < 0.6 * step(inpainter, photo, hole, Fit(seamless=False))


@pytest.mark.parametrize("size", [64, 100, 333])
def test_part_of_an_enlargement_is_part_of_the_whole(size: int) -> None:
    picture = np.random.default_rng(0).normal(100, 40, (64, 64, 3)).astype(np.float32)
    whole = enlarge(picture, size, slice(0, size), slice(0, size))
    assert whole.shape == (size, size, 3)
    part = enlarge(picture, size, slice(10, 37), slice(20, 61))
    assert np.abs(part - whole[10:37, 20:61]).max() < 0.01


@pytest.mark.parametrize(("deviation", "inside", "outside"), [(0, 1, 0), (40, 0, 1)])
def test_a_border_is_met_across_it_on_flat_ground_and_beside_it_elsewhere(
    deviation: float, inside: float, outside: float
) -> None:
    hole, random = middle(64), np.random.default_rng(0)
    photo = (128 + random.normal(0, deviation or 1e-9, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    painted = np.where(hole[..., None], photo - 20.0, photo - 4.0).astype(np.float32)
    found = Border(photo, hole)(painted)
    along = cv2.dilate(hole.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~hole
    expected = 20 * inside + 4 * outside
    assert abs(found[along].mean() - expected) < 1.5
    assert np.array_equal(found, Border(photo, hole)(painted))


def test_a_clear_sky_keeps_no_faint_lattice_but_a_cloud() -> None:
    hole = middle(64)
    sky = np.broadcast_to(np.linspace(60, 90, 64)[:, None, None], (64, 64, 3)).round().astype(np.uint8)
    crop = square_at(0, 0, 64, hole)
    lattice = np.where(np.add.outer(np.arange(64), np.arange(64)) % 4 < 2, 2.5, -2.5)[..., None]
    cloud = np.zeros((64, 64, 1), np.float32)
    cloud[26:36, 26:36] = 60
    view = View(crop, lambda: sky, hole, 64)
    full = view.finish((sky + lattice + cloud).astype(np.float32), STRUCTURES["alike"], True, Fit())
    still, there = np.abs(full - sky[16:48, 16:48]).max(2), cloud[16:48, 16:48, 0] > 0
    assert still[~there].mean() < 1
    assert still[there].min() > 50


def test_what_is_faint_stays_on_rough_ground() -> None:
    hole, photo = middle(64), texture(64)
    view = View(square_at(0, 0, 64, hole), lambda: photo, hole, 64)
    painted = photo.astype(np.float32)
    full = view.finish(painted, STRUCTURES["alike"], True, Fit())
    assert np.abs(full - painted[16:48, 16:48]).mean() < 1
