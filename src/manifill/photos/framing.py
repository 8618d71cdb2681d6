"""Squares that hold a face as a model's pictures held it: shifted, scaled and turned so that eyes and mouth agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from manifill.config import Fit
from manifill.networks.domain import Framing
from manifill.photos.crops import Crop, bounds, plan, turned_square
from manifill.photos.faces import Face, find_faces
from manifill.photos.thin import thin_part

EYES_AND_MOUTH = [0, 1, 3]  # of a face's points: the nose moves most as a head turns, and ears are guessed
UPRIGHT = 3.0  # degrees: faces turned by less are as upright as those in training, and need no interpolation
# A square photo whose face lies this near to its place is taken as it is. Of 300 validation faces the scales deviate by
# 4 %, the middles by 1 % of the side, the angles by 1.6 degrees.
NEAR_SCALE, NEAR_SHIFT, NEAR_ANGLE = 0.15, 0.05, 6.0
# What belongs to a face, as an ellipse in the training square: hair and neck do, what is behind the head does not.
CENTRE, RADII = (0.5, 0.52), (0.42, 0.55)
NOTICED = 0.05  # fraction of a face, from brows to chin, that a model which knows no faces may fill without a word


def similarity_transform(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Return (a, b), for which a z + b of the points `source` (N, 2), z = x + iy, is nearest to `target` (N, 2).

    The least-squares similarity transform: |a| is its scale, the argument of a its rotation (Umeyama, 1991).
    """
    z, t = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    a = (centred.conj() * (t - t.mean())).sum() / (abs(centred) ** 2).sum()
    return complex(a), complex(t.mean() - a * z.mean())


class FacePlace:
    """Where a photo has the training square around a face: middle (x, y) and `side` in pixels, `angle` in degrees."""

    def __init__(self, face: Face, framing: Framing) -> None:
        a, b = similarity_transform(
            np.array([framing.right_eye, framing.left_eye, framing.mouth]), face.points[EYES_AND_MOUTH]
        )
        middle = a * (0.5 + 0.5j) + b
        self.a, self.b, self.x, self.y, self.side = a, b, middle.real, middle.imag, abs(a)
        self.angle = float(np.rad2deg(np.angle(a)))

    def covers(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Say which pixels (x, y) of the photo belong to the face, bool of their shape."""
        z = ((x + 0.5) + 1j * (y + 0.5) - self.b) / self.a - complex(*CENTRE)
        return (z.real / RADII[0]) ** 2 + (z.imag / RADII[1]) ** 2 <= 1

    def fills(self, shape: tuple[int, ...]) -> bool:
        """Say whether a whole photo (H, W) shows the face as training did."""
        h, w = shape[:2]
        shift = max(abs(self.x - w / 2), abs(self.y - h / 2)) / self.side
        return h == w and abs(w / self.side - 1) < NEAR_SCALE and shift < NEAR_SHIFT and abs(self.angle) < NEAR_ANGLE

    def crop(self, hole: np.ndarray) -> Crop:
        """Return the crop that fills what it can of a hole, bool (H, W)."""
        if self.fills(hole.shape):
            return turned_square(hole.shape[1] / 2, hole.shape[0] / 2, hole.shape[0], 0.0, hole)
        angle = self.angle if abs(self.angle) > UPRIGHT else 0.0
        return turned_square(self.x, self.y, max(8, round(self.side)), angle, hole)


def face_crops(hole: np.ndarray, faces: Sequence[Face], framing: Framing) -> list[Crop]:
    """Return a crop for every face that a hole, bool (H, W), meets, framed as a model's pictures were.

    Each connected part of the hole goes to the face that it covers most of, as far as the face's square reaches.
    """
    import cv2

    if not faces:
        return []
    places = [FacePlace(face, framing) for face in faces]
    rows, columns = box = bounds(hole)
    count, found = cv2.connectedComponents(hole[box].astype(np.uint8), connectivity=8)
    labels = np.asarray(found, np.int32)
    ys, xs = np.nonzero(hole[box])
    which, own = labels[ys, xs], [place.covers(xs + columns.start, ys + rows.start) for place in places]
    covered = np.stack([np.bincount(which, covers, count) for covers in own])
    owner = np.where(covered.any(0), covered.argmax(0), -1)  # of each connected part; label 0 is no part
    owner[0] = -1
    crops = []
    for k, place in enumerate(places):
        if (owner == k).any():
            part = np.zeros_like(hole)
            part[box] = owner[labels] == k
            crops.append(place.crop(part))
    return [replace(crop, face=True) for crop in crops if crop.own.any()]


def meets_face(rgb: np.ndarray, hole: np.ndarray) -> bool:
    """Say whether a hole, bool (H, W), hides a part of a face of a photo, uint8 (H, W, 3), that one would notice."""
    boxes = (np.maximum(face.box, 0).astype(int) for face in find_faces(rgb, hole))
    return any(hole[top:bottom, left:right].mean() > NOTICED for left, top, right, bottom in boxes)


@dataclass(frozen=True)
class Plan:
    """How a hole is filled: first its `thin` part, bool (H, W), without a model, then crop after crop.

    `notes` are what to tell whoever asked.
    """

    thin: np.ndarray
    crops: Sequence[Crop]
    notes: Sequence[str] = ()


def plan_photo(rgb: np.ndarray, hole: np.ndarray, size: int, fit: Fit, framing: Framing | None, only: bool) -> Plan:
    """Plan how the hole, bool (H, W), of a photo, uint8 (H, W, 3), is filled.

    `size` is that of the model's pictures and `framing` that of the model that knows faces, None where none does.
    `only` says that it fills whatever is no face as well.
    """
    thin = thin_part(hole) if fit.thin else np.zeros_like(hole)
    rest = hole & ~thin
    if not rest.any():
        return Plan(thin, [])
    if framing is None or fit.strategy != "auto":
        return Plan(thin, plan(rest, size, fit))
    crops = face_crops(rest, find_faces(rgb, rest), framing)
    if not crops:
        note = ["no face is near the hole, and this model knows nothing else: expect little"] if only else []
        return Plan(thin, plan(rest, size, fit), note)
    for crop in crops:
        rest[crop.rows, crop.columns] &= ~crop.own
    others = plan(rest, size, replace(fit, strategy="crop")) if rest.any() else []
    return Plan(thin, [*crops, *others])
