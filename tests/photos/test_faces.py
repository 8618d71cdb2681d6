"""Faces: found where they are and nowhere else, and framed as a model's pictures were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from manifill.networks.domain import Framing
from manifill.photos.crops import Crop, turned_square
from manifill.photos.faces import Face, find_faces
from manifill.photos.framing import FacePlace, face_crops, similarity_transform

ROOT = Path(__file__).parents[1]
FRAMING = Framing((0.332, 0.339), (0.67, 0.338), (0.499, 0.708))
FACE = np.asarray(Image.open(ROOT.parent / "examples" / "astronaut.png").convert("RGB"))
BACKGROUND = (180, 170, 160)


def photo(*places: tuple[float, float, float, float], shape: tuple[int, int] = (700, 1000)) -> np.ndarray:
    """Return a photo (H, W, 3) of the example's face, at middles (x, y), so large, turned by so many degrees."""
    result = np.full((*shape, 3), BACKGROUND, np.uint8)
    for x, y, side, angle in places:
        to_photo = cv2.getRotationMatrix2D((63.5, 63.5), -angle, side / 128)
        to_photo[:, 2] += x - 63.5, y - 63.5
        size = (shape[1], shape[0])
        which = cv2.warpAffine(np.full((128, 128), 255, np.uint8), to_photo, size) == 255
        result[which] = cv2.warpAffine(FACE, to_photo, size, flags=cv2.INTER_CUBIC)[which]
    return result


def disc(x: float, y: float, radius: float, shape: tuple[int, int] = (700, 1000)) -> np.ndarray:
    ys, xs = np.indices(shape)
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


def test_the_face_of_the_example_and_its_points() -> None:
    (face,) = find_faces(FACE)
    assert face.score > 0.8
    eyes_nose_mouth = [(44.5, 41.5), (86, 40.5), (67, 66), (67, 84)]  # by eye
    assert np.abs(face.points[:4] - eyes_nose_mouth).max() < 4


def test_a_cat_is_no_person() -> None:
    assert find_faces(np.asarray(Image.open(ROOT / "pictures" / "cat.jpg"))) == []


@pytest.mark.parametrize("angle", [0, 20, -20])
def test_points_follow_shift_scale_and_rotation(angle: float) -> None:
    picture = photo((640, 300, 260, angle))
    (reference,), (face,) = find_faces(FACE), find_faces(picture)
    to_photo = cv2.getRotationMatrix2D((63.5, 63.5), -angle, 260 / 128)
    to_photo[:, 2] += 640 - 63.5, 300 - 63.5
    expected = reference.points @ to_photo[:, :2].T + to_photo[:, 2]
    assert np.abs(face.points - expected)[[0, 1, 3]].max() < 0.05 * 260


def test_a_face_of_a_large_photo_is_where_it_is_in_a_small_one() -> None:
    small = photo((640, 300, 260, 10))
    (reference,), (face,) = (
        find_faces(small),
        find_faces(cv2.resize(small, (6003, 4201), interpolation=cv2.INTER_CUBIC)),
    )
    assert np.abs(face.points / 6 - reference.points)[[0, 1, 3]].max() < 0.02 * 260


def test_a_small_face_is_found_beside_the_hole() -> None:
    picture = photo((2300, 1500, 110, 0), shape=(2000, 3000))
    assert find_faces(picture) == []
    (face,) = find_faces(picture, disc(2300, 1520, 20, (2000, 3000)))
    assert abs(face.points[3] - (2302, 1517)).max() < 5


@pytest.mark.parametrize("angle", [0, 20, -35])
def test_the_square_of_a_face_is_the_picture_that_it_was_made_from(angle: float) -> None:
    picture = photo((500, 350, 256, angle))
    (face,), (reference,) = find_faces(picture), find_faces(FACE)
    place, before = FacePlace(face, FRAMING), FacePlace(reference, FRAMING)
    assert place.angle - before.angle == pytest.approx(angle, abs=3)
    assert place.side / before.side == pytest.approx(2, rel=0.06)
    (crop,) = face_crops(disc(500, 400, 30), [face], FRAMING)
    seen = cv2.resize(crop.cut(picture), (128, 128), interpolation=cv2.INTER_AREA)
    (again,) = find_faces(seen)
    eyes_and_mouth = np.array([FRAMING.right_eye, FRAMING.left_eye, FRAMING.mouth]) * 128
    assert np.abs(again.points[[0, 1, 3]] - eyes_and_mouth).max() < 6


def test_similarity_finds_the_transform() -> None:
    points = np.random.default_rng(0).random((5, 2))
    a, b = 1.5 * np.exp(0.4j), 3 - 2j
    moved = a * (points[:, 0] + 1j * points[:, 1]) + b
    assert similarity_transform(points, np.stack([moved.real, moved.imag], 1)) == pytest.approx((a, b))


def test_each_hole_takes_the_face_that_it_covers_most_of() -> None:
    faces = find_faces(photo((250, 350, 220, 0), (700, 300, 260, 15)))
    assert len(faces) == 2
    holes = [disc(250, 330, 15), disc(230, 390, 12), disc(705, 340, 30)]
    crops = face_crops(holes[0] | holes[1] | holes[2] | disc(480, 650, 20), faces, FRAMING)
    filled = [np.zeros((700, 1000), bool) for _ in crops]
    for one, crop in zip(filled, crops, strict=True):
        one[crop.rows, crop.columns] = crop.own
    assert sorted(int(one.sum()) for one in filled) == sorted([int((holes[0] | holes[1]).sum()), int(holes[2].sum())])
    assert face_crops(disc(480, 650, 20), faces, FRAMING) == []
    assert face_crops(holes[0], [], FRAMING) == []


def test_a_photo_framed_as_in_training_is_taken_whole() -> None:
    (crop,) = face_crops(disc(64, 80, 10, (128, 128)), find_faces(FACE), FRAMING)
    assert (crop.top, crop.left, crop.side, crop.angle) == (0, 0, 128, 0)


@pytest.fixture(scope="module")
def turned() -> Crop:
    return turned_square(60, 45, 80, 25.0, disc(55, 50, 12, (120, 100)))


def test_a_turned_square_and_its_inverse(turned: Crop) -> None:
    ys, xs = np.indices((120, 100))
    smooth = np.stack([100 + 0.5 * xs, 60 + 0.8 * ys, 20 + 0.4 * (xs + ys)], 2).astype(np.uint8)
    square = turned.cut(smooth)
    assert square.shape == (80, 80, 3)
    rows, columns = turned.box()
    returned = turned.back(square.astype(np.float32), rows, columns)
    which = turned.owned(rows, columns)
    assert which.sum() == disc(55, 50, 12, (120, 100)).sum()
    assert np.abs(returned - smooth[rows, columns])[which].max() < 2


def test_what_lies_under_the_hole_does_not_reach_a_turned_squares_known_pixels(turned: Crop) -> None:
    hole = disc(55, 50, 12, (120, 100))
    picture = np.random.default_rng(1).integers(0, 256, (120, 100, 3), np.uint8)
    other = picture.copy()
    other[hole] = 255 - other[hole]
    known = ~turned.cut(hole)
    assert np.array_equal(turned.cut(picture)[known], turned.cut(other)[known])
    assert not np.array_equal(turned.cut(picture), turned.cut(other))


def test_a_turned_square_fills_only_what_lies_in_it() -> None:
    everything = np.ones((120, 100), bool)
    crop = turned_square(50, 60, 40, 45.0, everything)
    assert crop.own.sum() == pytest.approx(1600, rel=0.05)
    assert not crop.own[0, 0]


@pytest.mark.parametrize("field", ["right_eye", "mouth"])
def test_places_that_are_no_face(field: str) -> None:
    with pytest.raises(ValueError, match="framing has the places"):
        dataclasses.replace(FRAMING, **{field: (0.9, 0.1)})


def test_a_face_at_the_border_of_the_photo() -> None:
    points = np.array([(5, 30), (45, 30), (25, 50), (25, 75), (0, 40), (60, 40)], float)
    (crop,) = face_crops(disc(25, 60, 10, (100, 100)), [Face(0.9, np.array([0.0, 0, 60, 90]), points)], FRAMING)
    assert crop.left < 0
    assert crop.cut(np.zeros((100, 100, 3), np.uint8)).shape == (crop.side, crop.side, 3)
