"""Small files that would cost much: completed or refused soon, with memory in proportion to the photo."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import cli
from manifill.config import Fit, SamplingOptions
from manifill.inpainter import seeds_from
from manifill.photos.crops import LONG, MOST, SMALL, plan

MEASURED = """
import resource, sys, time, torch
from manifill import Inpainter
torch.set_num_threads(1)
model = Inpainter.from_pretrained(sys.argv[1], "cpu")
list(model("warm.png", "warm_mask.png", num_samples=1, seed=0))
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
(completion,) = model("photo.png", "mask.png", num_samples=1, seed=0)
completion.image.save("result.png")
print(time.process_time() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def holes(name: str) -> np.ndarray:
    """Masks of rows 21 and 22 of the cases from the field, and others of their kind, bool (H, W)."""
    rng = np.random.default_rng(0)
    shapes = {"short strip": (80, 4000), "strip": (80, 14000), "tall": (14000, 80), "long": (80, 200_000)}
    hole = np.zeros(shapes.get(name, (2048, 2047)), np.bool_)
    if name in shapes:
        hole[10:, 10:] = True
    elif name == "dots":
        hole[::2, ::2] = True
    elif name == "noise":
        hole |= rng.random(hole.shape) < 0.05
    elif name == "lines":
        for k in range(0, 1000, 2):
            hole[k, k // 2 + 20 : k // 2 + 1044] = True
    return hole


@pytest.mark.parametrize("name", ["strip", "tall", "long", "dots", "noise", "lines"])
@pytest.mark.parametrize("margin", [None, 0])
def test_squares_are_few_and_in_proportion(name: str, margin: int | None) -> None:
    hole, began = holes(name), time.process_time()
    crops = plan(hole, 128, Fit(crop_margin=margin))
    assert time.process_time() - began < 5
    assert len(crops) <= MOST
    assert max(crop.side**2 for crop in crops) <= max(LONG * hole.size, SMALL)
    filled = np.zeros(hole.shape, np.uint8)
    for crop in crops:
        filled[crop.rows, crop.columns] += crop.own
    assert np.array_equal(filled, hole)


@pytest.mark.parametrize("shape", [(10, 500_000), (1, 2_000_000)])
def test_a_photo_that_is_too_long(shape: tuple[int, int]) -> None:
    hole = np.zeros(shape, np.bool_)
    hole[::2, ::2] = True
    with pytest.raises(ValueError, match="too long and narrow to be completed in squares"):
        plan(hole, 128, Fit())
    with pytest.raises(ValueError, match="too long and narrow"):
        plan(hole, 128, Fit("resize"))


LARGE = [pytest.param(name, most, marks=pytest.mark.slow) for name, most in (("strip", 200), ("dots", 600))]


@pytest.mark.parametrize(("name", "mebibytes"), [("short strip", 100), *LARGE])
def test_memory_is_in_proportion_to_the_photo(tmp_path: Path, reference_model: Path, name: str, mebibytes: int) -> None:
    """Rows 21 and 22: the strip took 4.1 GiB, a short one in proportion."""
    hole = holes(name)
    ramp = np.linspace(0, 255, hole.shape[1]).astype(np.uint8)
    photo = np.stack([np.broadcast_to(ramp, hole.shape)] * 3, 2)
    for file, mask, pixels in (("", hole, photo), ("warm", np.pad(hole[:20, :20], 22), photo[:64, :64])):
        Image.fromarray(pixels).save(tmp_path / f"{file or 'photo'}.png")
        Image.fromarray(mask).save(tmp_path / f"{file + '_' if file else ''}mask.png")
    command = [sys.executable, "-c", MEASURED, str(reference_model)]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    seconds, memory = map(float, said.split())
    assert seconds < 60
    assert memory < mebibytes
    result = np.asarray(Image.open(tmp_path / "result.png"))
    assert np.array_equal(result[~hole], photo[~hole])


@pytest.mark.parametrize("value", [0, -1, 1e-39, 1e-320, float("nan"), float("inf")])
def test_numbers_that_32_bits_do_not_hold(value: float) -> None:
    with pytest.raises(ValueError, match="temperature is"):
        SamplingOptions(temperature=value)
    with pytest.raises(ValueError, match="top_p is"):
        SamplingOptions(top_p=value)


@pytest.mark.parametrize("seed", [1.5, "1", [1], 2**40, -2])
def test_odd_seeds(seed: object) -> None:
    with pytest.raises(ValueError, match="seed is"):
        seeds_from(seed, 1)  # type: ignore[arg-type]
    assert list(seeds_from(np.int64(3), 2)) == [3, 4]  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ['{"file": ["a.png"]}', "[1]", "[" * 100_000, '{"file": null}', "\xff"])
def test_odd_lines_in_a_manifest(
    monkeypatch: pytest.MonkeyPatch, photo_and_mask: tuple[Path, Path], reference_model: Path, tmp_path: Path, line: str
) -> None:
    """Row 24: they go, as what a kill has cut short; good lines stay."""
    manifest, good = tmp_path / "out" / "manifest.jsonl", '{"file": "other_000.png"}\n'
    manifest.parent.mkdir()
    manifest.write_bytes(f"{line}\n{good}".encode("latin-1"))
    words = ["manifill", "inpaint", *map(str, photo_and_mask), "-o", str(manifest.parent), "-n", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--model", str(reference_model)])
    assert cli.main() == 0
    lines = [json.loads(text)["file"] for text in manifest.read_text().splitlines()]
    assert lines == ["other_000.png", "face_000.png"]
