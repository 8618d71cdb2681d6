"""Photos as people bring them, before and after: `python benchmarks/any_photo.py --out OUT [CASE ...]`.

Prints a line a case and way: what filled the hole, seconds, LPIPS with AlexNet around the hole and PSNR in it, mean of
the samples, and OpenCV's Telea beside them. OUT gets a picture of each. `before` is `faces-128` framed by the photo's
size, without thin parts and faces told apart. Photos are this repository's and scikit-image's, in the public domain.
"""

from __future__ import annotations

import argparse
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage
from PIL import Image

from manifill import Inpainter
from manifill.config import Fit
from manifill.evaluate.features import LPIPS
from manifill.files.results import filled_by

ROOT = Path(__file__).parent.parent
PHOTOS = Path(skimage.__file__).parent / "data"
PORTRAIT = ROOT / "src" / "manifill" / "web" / "static" / "samples" / "portrait.png"
CASES: dict[str, Callable[[], Case]] = {}


@dataclass
class Case:
    """A photo, uint8 (H, W, 3), its hole, bool (H, W), how many samples, and the file that it comes in, if any."""

    photo: np.ndarray
    hole: np.ndarray
    samples: int = 8
    file: bytes | None = None

    @property
    def around(self) -> tuple[slice, slice]:
        """The square around the hole that is judged and shown."""
        ys, xs = np.nonzero(self.hole)
        side = min(int(1.6 * max(np.ptp(ys), np.ptp(xs))) + 16, *self.hole.shape)
        starts = (
            int(np.clip((v.min() + v.max() - side) // 2, 0, n - side))
            for v, n in zip((ys, xs), self.hole.shape, strict=True)
        )
        rows, columns = (slice(start, start + side) for start in starts)
        return rows, columns


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Add a case under the name of the function that makes it."""
    CASES[make.__name__] = make
    return make


def opened(path: Path, side: tuple[int, int] | None = None) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), scaled to `side` (W, H) where given."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    return np.asarray(picture if side is None else picture.resize(side, Image.Resampling.LANCZOS))


def ellipse(shape: tuple[int, ...], x: float, y: float, a: float, b: float, angle: float = 0) -> np.ndarray:
    """Return an ellipse around (x, y) with half axes a and b as a hole, bool (H, W)."""
    hole = np.zeros(shape[:2], np.uint8)
    return cv2.ellipse(hole, (round(x), round(y)), (round(a), round(b)), angle, 0, 360, 1, -1) > 0


def astronaut() -> np.ndarray:
    """Return the uncropped astronaut, 512x512 pixels; her nose is at (222, 125), her mouth at (222, 150)."""
    return opened(PHOTOS / "astronaut.png")


@case
def uncropped_astronaut() -> Case:
    """A face that is a quarter as wide as the photo, without nose and mouth."""
    return Case(astronaut(), ellipse((512, 512), 225, 141, 35, 27))


@case
def example_1024() -> Case:
    """The example, enlarged eight times."""
    photo = opened(ROOT / "examples" / "astronaut.png", (1024, 1024))
    hole = np.zeros((1024, 1024), np.bool_)
    hole[256:768, 256:768] = True
    return Case(photo, hole)


@case
def portrait_3000x4000() -> Case:
    """A telephone's portrait, stored on its side with EXIF orientation."""
    photo, file = opened(PORTRAIT, (3000, 4000)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo)).save(file, "jpeg", quality=95, exif=exif)
    with Image.open(file) as stored:
        photo = np.rot90(np.asarray(stored), -1).copy()
    return Case(photo, ellipse(photo.shape, 1500, 1560, 420, 330), 8, file.getvalue())


@case
def two_faces() -> Case:
    """Two faces of different sizes, a hole in each."""
    left, right = astronaut()[:400, 40:400], opened(PORTRAIT, (320, 400))
    photo = np.hstack([left, right])
    hole = ellipse(photo.shape, 185, 141, 35, 27) | ellipse(photo.shape, 360 + 160, 156, 45, 35)
    return Case(photo, hole)


@case
def turned_20_degrees() -> Case:
    """A face that leans to the side."""
    turn = cv2.getRotationMatrix2D((225, 125), 20, 1)
    photo = cv2.warpAffine(astronaut(), turn, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    x, y = turn @ [225, 141, 1]
    return Case(photo, ellipse(photo.shape, x, y, 35, 27, -20))


@case
def coffee() -> Case:
    """A hole over the table."""
    return Case(photo := opened(PHOTOS / "coffee.png"), ellipse(photo.shape, 500, 90, 60, 45))


@case
def cat() -> Case:
    """A hole over what is behind the cat."""
    return Case(photo := opened(ROOT / "tests" / "pictures" / "cat.jpg"), ellipse(photo.shape, 395, 70, 45, 45))


@case
def rocket() -> Case:
    """A disc of sky."""
    return Case(photo := opened(PHOTOS / "rocket.jpg"), ellipse(photo.shape, 480, 120, 60, 60))


def scratched(photo: np.ndarray, count: int) -> np.ndarray:
    """Return scratches over a whole photo, 2 to 5 pixels wide in one of 640."""
    random, (h, w) = np.random.default_rng(0), photo.shape[:2]
    hole = np.zeros((h, w), np.uint8)
    for _ in range(count):
        points = random.uniform(0, 1, 2) + np.cumsum(random.normal(0, 0.06, (9, 2)), 0)
        width = round(random.uniform(2, 5) * w / 640)
        cv2.polylines(hole, [(points * [w, h]).round().astype(np.int32)], False, 1, max(1, width), cv2.LINE_8)
    return hole > 0


@case
def scratches_640x560() -> Case:
    """An old photo's scratches."""
    photo = opened(PHOTOS / "astronaut.png", (640, 640))[:560]
    return Case(photo, scratched(photo, 25), 1)


@case
def scratches_1600x1200() -> Case:
    """The same on a larger scan."""
    photo = opened(PHOTOS / "coffee.png", (1800, 1200))[:, 100:1700]
    return Case(photo, scratched(photo, 25), 1)


@case
def marks_260() -> Case:
    """260 watermarks on 3000x2000 pixels."""
    photo = opened(PHOTOS / "coffee.png", (3000, 2000))
    hole = np.zeros(photo.shape[:2], np.uint8)
    for k in range(260):
        place = (k % 20 * 150 + 10, k // 20 * 152 + 90)
        cv2.putText(hole, "mark", place, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 1, 6)
    return Case(photo, hole > 0, 1)


def tiled(name: str) -> np.ndarray:
    """Return a photo of a texture, mirrored again and again to 12 megapixels: sharp to the pixel."""
    tile = opened(PHOTOS / name)
    pair = np.vstack([np.hstack([tile, tile[:, ::-1]]), np.hstack([tile[::-1], tile[::-1, ::-1]])])
    return np.tile(pair, (3, 4, 1))[:3000, :4000]


@case
def gravel_600_of_4000x3000() -> Case:
    """A hole of 600 pixels in 12 megapixels of gravel."""
    return Case(tiled("gravel.png"), ellipse((3000, 4000), 2000, 1500, 300, 300), 2)


@case
def grass_600_of_4000x3000() -> Case:
    """The same in grass."""
    return Case(tiled("grass.png"), ellipse((3000, 4000), 2000, 1500, 300, 300), 2)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of two arrays of uint8 in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


def sharpness(picture: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """Return gradient energy in a hole over that in a ring around it, and the step across its border over that beside.

    The energy is of 3x3 Sobel filters; the step is the mean difference of neighbouring pixels.
    """
    grey = picture.astype(np.float32).mean(2)
    gx, gy = (cv2.Sobel(grey, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    energy = gx**2 + gy**2
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
    away = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)
    reach = float(depth.max()) / 3
    ratio = energy[depth > 4].mean() / max(1e-9, energy[(away > 4) & (away < 4 + reach)].mean())
    differences = [abs(np.diff(grey, axis=k)) for k in (0, 1)]
    crossing = [np.diff(hole.astype(np.int8), axis=k) != 0 for k in (0, 1)]
    beside = [away.take(range(away.shape[k] - 1), k) for k in (0, 1)]
    step = np.concatenate([d[c] for d, c in zip(differences, crossing, strict=True)]).mean()
    usual = np.concatenate([d[(b > 2) & (b < 12)] for d, b in zip(differences, beside, strict=True)]).mean()
    return float(ratio), float(step / max(1e-9, usual))


def before(photo: np.ndarray) -> Fit:
    """Return how a hole was fitted when photos were framed by their size."""
    h, w = photo.shape[:2]
    return Fit(strategy="resize" if h == w <= 512 else "crop", thin=False)


def main() -> None:
    """Run the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lpips-alex", type=Path, help="weights of LPIPS with AlexNet")
    parser.add_argument("--before", action="store_true", help="also the way before")
    parser.add_argument("--samples", type=int, help="of each case, in place of its own number")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    judge = LPIPS("alex", given.lpips_alex) if given.lpips_alex else None
    warnings.simplefilter("always")
    for name in given.cases or CASES:
        run(name, CASES[name](), given, judge)


def run(name: str, c: Case, given: argparse.Namespace, judge: LPIPS | None) -> None:
    """Print the lines of one case and write its picture: a row each way."""
    rows, columns = c.around
    hole = c.hole[rows, columns]
    show = min(1, 256 / len(hole))

    def row(pictures: list[np.ndarray]) -> np.ndarray:
        return np.hstack([cv2.resize(p, None, fx=show, fy=show, interpolation=cv2.INTER_AREA) for p in pictures])

    def report(way: str, found: list[np.ndarray], seconds: float, filled: object) -> None:
        assert all(np.array_equal(f[~c.hole], c.photo[~c.hole]) for f in found), "a known pixel has changed"
        fills = [psnr(f[c.hole], c.photo[c.hole]) for f in found]
        ratio, step = np.mean([sharpness(f[rows, columns], hole) for f in found], 0)
        far = f"LPIPS {np.mean([distance(judge, f[rows, columns], c) for f in found]):.4f}, " if judge else ""
        print(
            f"{name}, {way}: {filled}, {seconds:.1f} s for {len(found)}, {far}PSNR {np.mean(fills):.1f} dB, "
            f"gradient energy {ratio:.2f}, step {step:.2f}, known pixels equal",
            flush=True,
        )

    cells = [np.where(c.hole[..., None], np.uint8(255), c.photo)[rows, columns], c.photo[rows, columns]]
    sheet = []
    for way, model in (("after", "auto"), *((("before", "faces-128"),) if given.before else ())):
        inpainter, began = Inpainter.from_pretrained(model), time.perf_counter()
        fit = before(c.photo) if way == "before" else Fit()
        asked = inpainter(c.file or c.photo, c.hole, num_samples=given.samples or c.samples, seed=0, fit=fit)
        found = [completion.rgb for completion in asked]
        report(way, found, time.perf_counter() - began, filled_by(asked))
        sheet.append(row([*cells, *(f[rows, columns] for f in found)]))
    began = time.perf_counter()
    telea = cv2.inpaint(np.ascontiguousarray(c.photo), c.hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    report("Telea", [telea], time.perf_counter() - began, "Telea")
    Image.fromarray(np.vstack(sheet)).save(given.out / f"{name}.png")


def distance(judge: LPIPS, picture: np.ndarray, c: Case) -> float:
    """Return LPIPS between a completion and its photo around the hole, scaled to at most 512 pixels."""
    import torch

    rows, columns = c.around
    scale = min(1, 512 / len(picture))
    pair = (
        cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for p in (picture, c.photo[rows, columns])
    )
    a, b = (torch.from_numpy(np.ascontiguousarray(p)).permute(2, 0, 1)[None].float() for p in pair)
    return float(judge.perceptual(a, b))


if __name__ == "__main__":
    main()
