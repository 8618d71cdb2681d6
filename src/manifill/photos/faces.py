"""Faces in a photo, with the places of their eyes, nose and mouth: BlazeFace, run by OpenCV.

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs" (2019). The network's file is that
of MediaPipe (Apache-2.0, see `blazeface/README.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np

from manifill.photos.crops import around_parts

OUTPUTS = ("classificators", "regressors")  # asked for by name: OpenCV 5 lists one of the two
INPUT = 256  # side of the network's square input, in pixels
STRIDES = ((16, 2), (32, 6))  # of each grid of cells: pixels between cells, boxes that each cell may answer with
POINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")  # right is the person's own
CANDIDATE = 0.5  # the least score of a first look, as MediaPipe has it
# The least mean score of the looks below. Of 120 faces the lowest was 0.76; a cat's had 0.5, and of 250 photographs of
# places two had more, both with people in them.
LEAST_SCORE = 0.7
LOOKS = (2.2, 3.0)  # sides of the squares in which a candidate is looked at again, in sides of its box
WHOLE = 1.25  # side of the square that the whole photo is searched in: faces that fill it are missed without a rim
SAME = 0.3  # boxes whose intersection is more than this fraction of their union are one face
REDUCED = 4  # times that a photo is scaled down for windows of over twice as many pixels for each of the network's
WINDOWS = 24  # squares that are searched at most
LOCK = threading.Lock()  # the network keeps its input between calls, and a server's requests share it


@dataclass(frozen=True)
class Face:
    """One face: `box` (left, top, right, bottom) and `points` (6, 2) as x, y, in pixels of the photo; see POINTS.

    `score` in (0, 1) says how sure the network is.
    """

    score: float
    box: np.ndarray
    points: np.ndarray

    @property
    def side(self) -> float:
        """The side of the box in pixels: the network's boxes are nearly square."""
        return float(np.max(self.box[2:] - self.box[:2]))


@cache
def _network() -> tuple[Any, np.ndarray]:
    """Return the network and the centres of its answers in parts of the input, (896, 2) as x, y."""
    import cv2

    data = (resources.files("manifill") / "photos" / "blazeface" / "face_detection_back.tflite").read_bytes()
    net = cv2.dnn.readNetFromTFLite(np.frombuffer(data, np.uint8))
    centres = [
        (x + 0.5, y + 0.5, INPUT // stride)
        for stride, count in STRIDES
        for y in range(INPUT // stride)
        for x in range(INPUT // stride)
        for _ in range(count)
    ]
    return net, np.array([(x / n, y / n) for x, y, n in centres])


def find_faces(rgb: np.ndarray, hole: np.ndarray | None = None) -> list[Face]:
    """Return the faces in a photo, uint8 (H, W, 3), the surest first; with a hole, bool (H, W), those near it.

    What lies under the hole is looked at as it is. A face that is small in the photo is found only near the hole, as
    the network sees no more than 256 pixels at a time.
    """
    h, w = rgb.shape[:2]
    windows, photo = [(w / 2, h / 2, WHOLE * max(h, w))], Scaled(rgb)
    if hole is not None:
        windows += list(_around(hole))
    found = _merged(face for window in windows[:WINDOWS] for face in Window(photo, *window).faces())
    return _merged(face for candidate in found if (face := _confirmed(photo, candidate)).score >= LEAST_SCORE)


def _around(hole: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Yield squares (centre x, centre y, side) around the largest connected holes, from twice their extent on."""
    import cv2

    if not hole.any():
        return
    rows, columns = box = around_parts(hole)
    _, _, boxes, centres = cv2.connectedComponentsWithStats(hole[box].astype(np.uint8), connectivity=8)
    centres += columns.start, rows.start
    extents = boxes[1:, 2:4].max(1)
    seen: list[tuple[float, float, float]] = []
    for k in np.argsort(-extents, kind="stable"):
        x, y = centres[k + 1]
        side = max(2.0 * float(extents[k]), INPUT / 2)
        while side < max(hole.shape):
            if not any(s / 2 <= side <= 2 * s and max(abs(x - a), abs(y - b)) < s / 4 for a, b, s in seen):
                seen.append((float(x), float(y), side))
            side *= 2
        if len(seen) >= WINDOWS:
            break
    yield from seen


class Scaled:
    """A photo, uint8 (H, W, 3), that is scaled down once for all windows much larger than the network's input."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb

    @cached_property
    def small(self) -> np.ndarray:
        """The photo with a side of REDUCED pixels for each one; a rest at its right and bottom is cut off."""
        import cv2

        h, w = (n // REDUCED for n in self.rgb.shape[:2])
        return cv2.resize(self.rgb[: h * REDUCED, : w * REDUCED], (w, h), interpolation=cv2.INTER_AREA)


def _confirmed(photo: Scaled, face: Face) -> Face:
    """Return a face as seen in squares around it and in their mirror images: mean score, 0 where missed, and points.

    One look may take a cat or a cup for a face; these do not agree. Their mean is also nearer to where the points are.
    """
    seen, looks, (x, y) = [], 0, (face.box[:2] + face.box[2:]) / 2
    for zoom in LOOKS:
        window = Window(photo, x, y, zoom * face.side)
        for found in (window.faces(), window.faces(mirrored=True)):
            seen += [f for f in found if _overlap(f.box, face.box) > SAME][:1]
            looks += 1
    if not seen:
        return Face(0.0, face.box, face.points)
    box, points = (np.mean([getattr(f, name) for f in seen], 0) for name in ("box", "points"))
    return Face(sum(f.score for f in seen) / looks, box, points)


class Window:
    """A square of a photo at the network's size; it may reach beyond the photo, black there."""

    def __init__(self, photo: Scaled, x: float, y: float, side: float) -> None:
        """Take the square of `side` pixels of the photo around (x, y)."""
        import cv2

        times = REDUCED if side > 2 * REDUCED * INPUT else 1
        rgb, (x, y, side) = photo.small if times > 1 else photo.rgb, np.array([x, y, side]) / times
        h, w = rgb.shape[:2]
        scale, left, top = INPUT / side, x - side / 2, y - side / 2
        x0, y0 = (max(0, int(np.floor(v))) for v in (left, top))
        part = rgb[y0 : min(h, int(np.ceil(top + side))), x0 : min(w, int(np.ceil(left + side)))]
        wide, high = (min(INPUT, max(1, round(n * scale))) for n in (part.shape[1], part.shape[0]))
        dx, dy = (min(max(0, round(v * scale)), INPUT - n) for v, n in ((x0 - left, wide), (y0 - top, high)))
        self.square = np.zeros((INPUT, INPUT, 3), np.uint8)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR  # by areas, as others would skip pixels
        self.square[dy : dy + high, dx : dx + wide] = cv2.resize(part, (wide, high), interpolation=method)
        # a pixel of the square, and its first corner, in pixels of the photo
        self.pixel = times * np.array([part.shape[1] / wide, part.shape[0] / high])
        self.origin = times * np.array([x0, y0]) - np.array([dx, dy]) * self.pixel

    def faces(self, mirrored: bool = False) -> list[Face]:
        """Return the faces that the network finds here, the surest first; `mirrored` lets it see the mirror image."""
        net, centres = _network()
        square = self.square[:, ::-1] if mirrored else self.square
        with LOCK:
            net.setInput((square.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
            logits, found = (np.array(net.forward(name)) for name in OUTPUTS)
        logits = logits.reshape(-1)
        likely = np.flatnonzero(logits > np.log(CANDIDATE / (1 - CANDIDATE)))
        answers = found.reshape(len(centres), 8, 2)[likely].astype(np.float64)
        middle, size, points = answers[:, 0], answers[:, 1], answers[:, 2:]
        middle, points = middle + INPUT * centres[likely], points + INPUT * centres[likely, None]
        if mirrored:
            middle[:, 0], points[..., 0] = INPUT - middle[:, 0], INPUT - points[..., 0]
            points = points[:, [1, 0, 2, 3, 5, 4]]
        boxes = np.stack([middle - size / 2, middle + size / 2], 1) * self.pixel + self.origin
        points = points * self.pixel + self.origin
        scores = 1 / (1 + np.exp(-logits[likely]))
        return _merged(Face(float(s), b.ravel(), p) for s, b, p in zip(scores, boxes, points, strict=True))


def _merged(faces: Iterable[Face]) -> list[Face]:
    """Return one face of all that overlap, their mean weighted by score, as BlazeFace has it; the surest first."""
    waiting, result = sorted(faces, key=lambda f: -f.score), []
    while waiting:
        best = waiting[0]
        same = [f for f in waiting if f is best or _overlap(f.box, best.box) > SAME]
        waiting = [f for f in waiting if all(f is not s for s in same)]
        close = [f for f in same if f.side < 2 * best.side]
        weights = np.array([f.score for f in close]) / sum(f.score for f in close)
        box, points = (np.tensordot(weights, np.stack([getattr(f, n) for f in close]), 1) for n in ("box", "points"))
        result.append(Face(best.score, box, points))
    return result


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over their union."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = float(np.prod(np.maximum(high - low, 0)))
    return common / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common)
