"""Training batches that are a pure function of (seed, step), from pictures in memory, on the disk or streamed."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from torch import Tensor

from manifill.data import geometry as geometric
from manifill.data.dataset import Collection
from manifill.data.pictures import Pictures, window
from manifill.data.sources import DataError
from manifill.data.stream import Place, Stream
from manifill.photos.tensors import to_tensor

AHEAD = 4  # batches decoded ahead of the step


class Shuffled:
    """The order of numbered pictures: a permutation each epoch, whose last incomplete batch is left out."""

    def __init__(self, pictures: Collection | Pictures) -> None:
        self.pictures = pictures
        self._order = lru_cache(1)(self._permutation)

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, 1, epoch]).permutation(len(self.pictures))

    def places(self, step: int, batch_size: int, seed: int) -> list[Place]:
        """Return the places of this step's pictures."""
        epoch, place = divmod(step, len(self.pictures) // batch_size)
        order, first = self._order(seed, epoch), place * batch_size
        return [Place(self.pictures.prepared, order, k) for k in range(first, first + batch_size)]


class Batches:
    """The batch of step t as a function of (seed, t) alone: epoch order, crops, mirror images and mask generator.

    Pictures that are not in memory are decoded by threads, AHEAD batches before they are needed: `workers`, or one a
    core; the batches do not depend on their number. `part` = (k, n) is the k-th of n processes, which gets the k-th of
    n equal parts of each batch. Use it as a context, or call `close`, to end the threads.
    """

    def __init__(
        self,
        pictures: Collection | Pictures | Stream,
        batch_size: int,
        seed: int,
        flip: bool,
        part: tuple[int, int] = (0, 1),
        workers: int | None = None,
        geometry: float = 0.0,
    ) -> None:
        if not isinstance(pictures, Stream) and len(pictures) < batch_size:
            raise DataError(f"{len(pictures)} pictures are fewer than one batch of {batch_size}")
        if batch_size % part[1]:
            raise DataError(f"a batch of {batch_size} pictures cannot be divided among {part[1]} processes")
        self.pictures, self.batch_size, self.seed, self.flip = pictures, batch_size, seed, flip
        self.geometry = geometry  # fraction of pictures that are turned, scaled and shifted
        self.order = pictures if isinstance(pictures, Stream) else Shuffled(pictures)
        each = batch_size // part[1]
        self.part = range(part[0] * each, part[0] * each + each)
        self._pool = None if pictures.in_memory else ThreadPoolExecutor(workers or cores(), "decode")
        self._ahead: dict[int, list[Future[np.ndarray]]] = {}

    def __call__(self, step: int) -> tuple[Tensor, np.random.Generator]:
        """Return (pictures (B / n, 3, H, W) in [-1, 1], the generator for the masks of this step's whole batch)."""
        rng = np.random.default_rng([self.seed, 2, step])
        flips = rng.random(self.batch_size) < (0.5 if self.flip else 0.0)
        rows = [row[:, ::-1] if flips[k] else row for k, row in zip(self.part, self._rows(step), strict=True)]
        image = to_tensor(np.stack(rows))
        if self.geometry:
            maps = geometric.maps(self.batch_size, self.geometry, np.random.default_rng([self.seed, 6, step]))
            image = geometric.warp(image, maps[self.part.start : self.part.stop])
        return image, rng

    def _rows(self, step: int) -> list[np.ndarray]:
        """Return this process's pictures of a step, uint8 (size, size, 3), and have the next ones decoded."""
        if self._pool is None:
            return [self._picture(*task) for task in self._tasks(step)]
        wanted = range(step, step + AHEAD + 1)
        for other in [s for s in self._ahead if s not in wanted]:
            self._cancel(other)
        for s in wanted:
            if s not in self._ahead:
                self._ahead[s] = [self._pool.submit(self._picture, *task) for task in self._tasks(s)]
        return [future.result() for future in self._ahead.pop(step)]

    def _tasks(self, step: int) -> list[tuple[Place, np.ndarray]]:
        """Return (place of the picture, place of its window) for each of this process's pictures."""
        places = self.order.places(step, self.batch_size, self.seed)
        windows = np.random.default_rng([self.seed, 3, step]).random((self.batch_size, 2))
        return [(places[k], windows[k]) for k in self.part]

    def _picture(self, place: Place, where: np.ndarray) -> np.ndarray:
        return window(place.picture(), self.pictures.size, where)

    def _cancel(self, step: int) -> None:
        for future in self._ahead.pop(step):
            future.cancel()

    def close(self) -> None:
        """End the threads and the transfer; calling it again starts neither."""
        for step in list(self._ahead):
            self._cancel(step)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if isinstance(self.order, Stream):
            self.order.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cores() -> int:
    """Return how many cores this process may use, divided among the processes that a launcher started here."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
