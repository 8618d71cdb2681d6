"""Photos that the tests of data share: in a folder and in shards, two of them broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_sets import pack
from PIL import Image


@pytest.fixture(scope="module")
def photos(face: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 photos of different shapes and formats, of which 07 and 11 are broken."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for k in range(30):
        y, x = rng.integers(0, 40, 2)
        h, w = rng.integers(40, 80, 2)
        crop = face[y : y + h, x : x + w].astype(float) * rng.uniform(0.5, 1.2, 3)
        Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(folder / f"{k:02d}.{'jpg' if k % 2 else 'png'}")
    (folder / "07.jpg").write_bytes((folder / "07.jpg").read_bytes()[:700])
    (folder / "11.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the same photos in shards of 11, 9 and 10."""
    folder, files = tmp_path_factory.mktemp("shards"), sorted(photos.iterdir())
    for k, part in enumerate((files[:11], files[11:20], files[20:])):
        pack(part, folder / f"train-{k:03d}.tar")
    return folder
