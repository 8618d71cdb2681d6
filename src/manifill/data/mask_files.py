"""Masks of one's own to train with: a folder of pictures, read by the rule of `photos.mask`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manifill.data.masks import KINDS, Kind
from manifill.data.pictures import decoded
from manifill.data.sources import sources
from manifill.photos.mask import load_mask
from manifill.photos.photo import load_photo


def mask_kinds(kinds: Sequence[str], folder: Path | None, size: int) -> list[Kind]:
    """Return what draws each kind of hole, "files" from `folder`. Raises ValueError for an unknown one, DataError."""
    files = {"files": MaskFiles(folder, size).draw} if folder and "files" in kinds else {}
    known = KINDS | files
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"{kind}: no such kind of mask; expected {', '.join(KINDS)} or files, with --mask-files")
    return [known[kind] for kind in kinds]


class MaskFiles:
    """The masks of a folder at one size; those that cannot be read or have no hole are left out, and it says so.

    Raises DataError when none is left.
    """

    def __init__(self, folder: Path, size: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
        photo = load_photo(noise)  # of the size that is wanted, and unlike any mask
        words = "masks could be read; expected white where the hole is"
        found, left_out = decoded(
            sources([folder]), lambda data: np.packbits(load_mask(data, photo, notes=[])), quiet=True, what=words
        )
        self.packed, self.size = [packed for packed in found if packed is not None], size
        print(f"{len(self.packed)} masks of {folder}" + (f", {len(left_out)} left out" if left_out else ""))
        for name in left_out[:10]:
            print(f"  unreadable or without a hole: {name}")

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return one of them, float32 (size, size)."""
        packed = self.packed[int(rng.integers(len(self.packed)))]
        return np.unpackbits(packed, count=self.size**2).reshape(size, size).astype(np.float32)
