"""What the tests of data do with sets of pictures."""

from __future__ import annotations

import tarfile
from pathlib import Path

from manifill.data.batches import Batches


def pack(files: list[Path], shard: Path) -> Path:
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    return shard


def steps(batches: Batches, which: list[int]) -> list[tuple[bytes, float]]:
    """The pictures of steps, and what their generators give next."""
    with batches:
        return [(image.numpy().tobytes(), float(rng.random())) for image, rng in map(batches, which)]
