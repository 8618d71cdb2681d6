"""Training batches that are a pure function of (seed, step)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from manifill.pictures import DataError, Pictures


class Batches:
    """The batch of step t as a function of (seed, t) alone: epoch order, mirror images and mask generator."""

    def __init__(self, pictures: Pictures, batch_size: int, seed: int, flip: bool) -> None:
        if len(pictures) < batch_size:
            raise DataError(f"{len(pictures)} pictures are fewer than one batch of {batch_size}")
        self.pictures, self.batch_size, self.seed, self.flip = pictures, batch_size, seed, flip
        self.per_epoch = len(pictures) // batch_size
        self._order = (-1, np.empty(0, dtype=np.int64))

    def __call__(self, step: int) -> tuple[Tensor, np.random.Generator]:
        """Return (pictures (B, 3, H, W) in [-1, 1], the generator for the masks of this step)."""
        epoch, place = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._order = (epoch, rng.permutation(len(self.pictures)))
        index = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, 2, step])
        flips = rng.random(len(index)) < (0.5 if self.flip else 0.0)
        return self.pictures.tensor(index, flips), rng
