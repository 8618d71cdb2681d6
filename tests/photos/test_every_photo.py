"""Any photo, any mask: the written file has the photo's size, pixel type and metadata, and its own known pixels."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
from photo_files import MODE, samples_by_others
from PIL import Image

from manifill import Fit, ImageError, Inpainter
from manifill.files.results import Output
from manifill.photos.encode import Format, format_for
from manifill.photos.photo import load_photo

ALL = [pytest.param(kind, marks=photos.needs(kind)) for kind in photos.KINDS]


def disc(height: int, width: int) -> np.ndarray:
    """Return a hole in the middle, bool (H, W)."""
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2) / (height / 5)) ** 2 + ((x - width / 2) / (width / 5)) ** 2 < 1


def written(
    inpainter: Inpainter, photo: object, mask: object, out: Path, fit: Fit | None = None, format: Format | None = None
) -> bytes:
    """Complete a photo once and return the file."""
    completions = inpainter(photo, mask, num_samples=1, seed=0, fit=fit)  # type: ignore[arg-type]
    paths: list[Path] = []
    Output(out).write(completions, "a", "mask", format_for(completions.photo, format), paths.append)
    (path,) = paths
    return path.read_bytes()


def check(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray, out: Path, fit: Fit | None = None) -> np.ndarray:
    """Complete an array and check that its known pixels are its own and the hole is new; return the result."""
    result = samples_by_others(written(inpainter, photo, hole, out, fit), load_photo(photo).mode)
    assert result.shape == photo.shape
    assert np.array_equal(result[~hole], photo[~hole])
    if hole.sum() > 20:
        assert (result[hole] != photo[hole]).any()
    return result


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_of_file(inpainter: Inpainter, tmp_path: Path, kind: str) -> None:
    path, hole = photos.make(kind, tmp_path, 90, 70), disc(90, 70)
    before = load_photo(path)
    data = written(inpainter, path, hole, tmp_path)
    result = samples_by_others(data, MODE[kind])
    assert result.shape == before.samples.shape
    assert result.dtype == before.samples.dtype
    assert np.array_equal(result[~hole], before.samples[~hole])
    assert (result[hole] != before.samples[hole]).any()
    after = photos.read(data)
    with Image.open(path) as source:
        source.load()
        assert after.size == source.size
        assert after.mode == source.mode or kind in ("grey_key.png", "rgb_key.png")
        assert after.info.get("icc_profile") == source.info.get("icc_profile")
        assert [round(float(d)) for d in after.info.get("dpi", ())] == [
            round(float(d)) for d in source.info.get("dpi", ())
        ]
        tags = dict(source.getexif()) if source.format != "TIFF" else {}
        kept = {tag: value for tag, value in tags.items() if tag not in (0x0112, 0x8769, 0x8825)}
        assert kept.items() <= dict(after.getexif()).items()
        for folder in (0x8769, 0x8825):
            assert dict(after.getexif().get_ifd(folder)) == dict(source.getexif().get_ifd(folder))


@pytest.mark.parametrize("size", [(64, 64), (8, 64), (64, 8), (33, 47), (96, 768), (768, 96), (240, 320), (450, 330)])
@pytest.mark.parametrize("strategy", ["auto", "crop", "resize", "original"])
def test_sizes_and_shapes(inpainter: Inpainter, tmp_path: Path, size: tuple[int, int], strategy: str) -> None:
    check(inpainter, photos.face(*size), disc(*size), tmp_path, Fit(strategy=strategy))  # type: ignore[arg-type]


def holes() -> dict[str, np.ndarray]:
    """Return holes in a photo of 120x160 pixels by their names."""
    h, w, rng = 120, 160, np.random.default_rng(0)
    found = {
        name: np.zeros((h, w), np.bool_)
        for name in (
            "top",
            "bottom",
            "left",
            "right",
            "corners",
            "pixel",
            "corner pixel",
            "line",
            "column",
            "many",
            "specks",
            "rows",
            "frame",
            "ring",
        )
    }
    found["top"][:30, 40:90] = found["bottom"][-30:, 40:90] = found["left"][30:80, :40] = found["right"][
        30:80, -40:
    ] = 1
    for y, x in itertools.product((slice(0, 20), slice(-20, None)), repeat=2):
        found["corners"][y, x] = True
    found["pixel"][57, 91] = found["corner pixel"][0, 0] = found["line"][60] = found["column"][:, 3] = True
    for y, x in rng.integers(0, 110, (20, 2)):
        found["many"][y : y + 7, x : x + 11] = True
    found["specks"] = rng.random((h, w)) < 0.02
    found["rows"][::4] = True
    found["frame"][:], found["frame"][20:-20, 20:-20] = True, False
    found["ring"] = disc(h, w) ^ disc(h, w)[::-1, ::-1] | (disc(h, w) & ~np.roll(disc(h, w), 9, 0))
    return found


@pytest.mark.parametrize("name", holes())
@pytest.mark.parametrize("strategy", ["crop", "resize", "original"])
def test_holes_of_every_kind(inpainter: Inpainter, tmp_path: Path, name: str, strategy: str) -> None:
    check(inpainter, photos.face(120, 160), holes()[name], tmp_path, Fit(strategy=strategy))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["crop", "resize", "original"])
def test_everything_is_hole(inpainter: Inpainter, tmp_path: Path, strategy: str) -> None:
    with pytest.warns(UserWarning, match="everything is hole"):
        result = check(inpainter, photos.face(90, 120), np.ones((90, 120), np.bool_), tmp_path, Fit(strategy=strategy))  # type: ignore[arg-type]
    assert result.std() > 1


@pytest.mark.parametrize(
    "fit",
    [
        Fit(dilate=3),
        Fit(feather=4, seamless=False),
        Fit(seamless=False),
        Fit(seamless=True),
        Fit(detail=False),
        Fit(crop_margin=0),
        Fit(crop_margin=500),
        Fit(feather=100),
    ],
    ids=str,
)
def test_every_way_to_fit(inpainter: Inpainter, tmp_path: Path, fit: Fit) -> None:
    photo, hole = photos.face(150, 210), disc(150, 210)
    if not fit.dilate:
        check(inpainter, photo, hole, tmp_path, fit)
        return
    result = samples_by_others(written(inpainter, photo, hole, tmp_path, fit), "RGB")
    changed = (result != photo).any(2)
    around = np.zeros_like(hole)
    for y, x in itertools.product(range(-3, 4), repeat=2):
        around |= np.roll(hole, (y, x), (0, 1))
    assert not changed[~around].any()
    assert changed[around & ~hole].mean() > 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["rgb.jpg", "rgb.png", "rgb16.tif"])
def test_every_orientation(inpainter: Inpainter, tmp_path: Path, kind: str, orientation: int) -> None:
    path = photos.turned(kind, tmp_path, orientation, 60, 90)
    upright = load_photo(path).samples
    hole = disc(*upright.shape[:2])
    data = written(inpainter, path, hole, tmp_path)
    result = samples_by_others(data, MODE[kind])
    assert result.shape[:2] == ((60, 90) if orientation < 5 else (90, 60))
    assert np.array_equal(result[~hole], upright[~hole])
    assert 0x0112 not in photos.read(data).getexif()


def test_a_mask_of_another_size_and_with_loss(inpainter: Inpainter, tmp_path: Path) -> None:
    photo = photos.face(120, 160)
    Image.fromarray(disc(60, 80)).convert("L").save(tmp_path / "mask.jpg", quality=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its grey values
        result = samples_by_others(written(inpainter, photo, tmp_path / "mask.jpg", tmp_path), "RGB")
    with Image.open(tmp_path / "mask.jpg") as mask:
        hole = (np.asarray(mask) > 127).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(result[~hole], photo[~hole])
    assert (result[hole] != photo[hole]).any()


@pytest.mark.parametrize("kind", ["alpha.png", "alpha16.png", "grey_alpha.png", "palette_clear.png", "alpha.webp"])
def test_the_transparent_part_is_the_hole_and_opaque_afterwards(
    inpainter: Inpainter, tmp_path: Path, kind: str
) -> None:
    path = photos.make(kind, tmp_path, 90, 120)
    before = load_photo(path)
    assert before.alpha is not None
    if not (before.alpha == 0).any():
        with pytest.raises(ImageError, match="the mask has no hole"):
            inpainter(path)
        return
    data = written(inpainter, path, None, tmp_path)
    alpha = np.asarray(photos.read(data).convert("RGBA"))[..., 3]
    assert (alpha[before.alpha == 0] == 255).all()
    assert np.array_equal(alpha[before.alpha > 0], before.alpha[before.alpha > 0])


@pytest.mark.parametrize("format", ["tiff", "webp"])
def test_other_lossless_formats(inpainter: Inpainter, tmp_path: Path, format: Format) -> None:
    photo, hole = photos.face(60, 80), disc(60, 80)
    result = samples_by_others(written(inpainter, photo, hole, tmp_path, format=format), "RGB")
    assert np.array_equal(result[~hole], photo[~hole])


def test_sixteen_bits_are_used_in_the_hole(inpainter: Inpainter, tmp_path: Path) -> None:
    result = check(inpainter, photos.deep(90, 120), disc(90, 120), tmp_path)
    inside = result[disc(90, 120)]
    assert len(np.unique(inside)) > 256
    assert abs(inside.mean() / 257 - photos.face(90, 120)[disc(90, 120)].mean()) < 128


MEASURED = """
import resource, sys
from manifill import cli
sys.argv = ["manifill", *sys.argv[1:]]
code = cli.main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def three_holes(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """Write a photo of 24 megapixels and a mask with three discs of about 1000 pixels, two of them close together."""
    photo, mask, hole = folder / "photo.jpg", folder / "mask.png", np.zeros((4000, 6000), np.bool_)
    rng = np.random.default_rng(0)
    noisy = photos.face(4000, 6000).astype(np.int16) + rng.integers(-6, 7, (4000, 6000, 1)).astype(np.int16)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(photo, quality=92)
    y, x = np.ogrid[:4000, :6000]
    for centre_y, centre_x, radius in ((1300, 2000, 550), (1700, 3150, 500), (3000, 5000, 600)):
        hole |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
    Image.fromarray(hole).save(mask)
    return photo, mask, hole


@pytest.mark.slow
def test_a_large_photo_takes_little_memory(tmp_path: Path) -> None:
    photo, mask, hole = three_holes(tmp_path)
    command = [sys.executable, "-c", MEASURED, "inpaint", photo, mask, "-o", tmp_path / "out", "-n", "8", "--seed", "0"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other would count as work
    done = subprocess.run([*map(str, command)], env=alone, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = int(done.stdout.split()[-1]) / 2**20
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(f"peak {peak:.2f} GiB, {seconds:.1f} s of processor time")
    assert peak < 3
    assert seconds < 45  # so that two cores, which share most of it, take less than 30
    with Image.open(photo) as source, Image.open(tmp_path / "out" / "photo_007.png") as result:
        assert result.size == (6000, 4000)
        same = (np.asarray(source) == np.asarray(result)).all(2)
    assert same[~hole].all()
    assert same[hole].mean() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["crop", "resize"])
@pytest.mark.parametrize("size", [(4000, 6000), (6000, 750)])
def test_large_sizes(inpainter: Inpainter, tmp_path: Path, size: tuple[int, int], strategy: str) -> None:
    check(inpainter, photos.face(*size), disc(*size), tmp_path, Fit(strategy=strategy))  # type: ignore[arg-type]
