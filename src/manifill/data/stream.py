"""Pictures from streamed shards: no picture can be asked for by number, yet the order is a function of (seed, step)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from manifill.data.pictures import UNREADABLE, Pictures, prepared
from manifill.data.sources import BrokenShardError, DataError, Encoded, shown, stream
from manifill.data.unreadable import Unreadable
from manifill.networks.atomic import write_atomic

BLOCK = 2048  # pictures that are shuffled among each other, held encoded, twice: one block is read while one is used


class Place(NamedTuple):
    """A place in a shuffled order; `prepared` decodes a picture by its number, None when it cannot be read."""

    prepared: Callable[[int], np.ndarray | None]
    order: np.ndarray
    number: int

    def picture(self) -> np.ndarray:
        """Return the picture of this place, uint8 (h, w, 3); for an unreadable one, one from half the order on.

        Raises DataError when the whole order is unreadable.
        """
        count = len(self.order)
        for further in (0, *range(count // 2, count // 2 + count)):
            found = self.prepared(int(self.order[(self.number + further) % count]))
            if found is not None:
                return found
        raise DataError(f"none of {count} pictures could be read")


class Stream:
    """Streamed shards, read again in each epoch: their order is drawn, and the pictures within blocks are shuffled.

    How many pictures a shard holds is known once it was read; `keep` names a folder where that is remembered, so that
    a resumed run skips whole shards unread. Without it the run resumes to the same batches, reading from the start.
    """

    in_memory = False

    def __init__(self, urls: Sequence[str], size: int, crop: str) -> None:
        self.urls, self.size, self.crop = list(urls), size, crop
        self.counts: dict[str, int] = {}
        self.unreadable = Unreadable()
        self._path: Path | None = None
        self._rows: Generator[Place, None, None] | None = None
        self._next: tuple[int, int, int] | None = None  # (seed, epoch, picture) that `_rows` gives next

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these pictures from others."""
        names = "\n".join(map(shown, self.urls))
        return {"pictures": "streamed", "listing_digest": hashlib.sha256(names.encode()).hexdigest()[:16]}

    def sample(self, count: int) -> Pictures | None:
        """Return None: to sample a stream would be to fetch it."""

    def keep(self, folder: Path, write: bool = True) -> None:
        """Remember in `folder` what is learned on the way, shards.json and unreadable.txt, unless another process does.

        Raises DataError when shards.json is there and is something else.
        """
        path = folder / "shards.json"
        if write:
            self.unreadable.keep(folder)
            self._path = path
        if not path.exists():
            return
        try:
            known = dict(json.loads(path.read_text()))
            self.counts |= {url: int(known[shown(url)]) for url in self.urls if shown(url) in known}
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: expected the number of pictures by shard; delete it") from error

    def places(self, step: int, batch_size: int, seed: int) -> list[Place]:
        """Return the places of this step's pictures; quick when steps are asked for in turn."""
        while True:
            epoch, first = self._position(step, batch_size)
            if self._next != (seed, epoch, first) or self._rows is None:
                self.close()
                self._rows = self._epoch(seed, epoch, first)
            found = list(islice(self._rows, batch_size))
            self._next = (seed, epoch, first + len(found))
            if len(found) == batch_size:
                return found  # else the epoch is over and all shards are counted: look once more where the step is

    def _position(self, step: int, batch_size: int) -> tuple[int, int]:
        """Return the epoch of a step and its first picture there; the first epoch's length may not be known yet."""
        if len(self.counts) < len(self.urls):
            return 0, step * batch_size
        total = sum(self.counts.values())
        if total < batch_size:
            raise DataError(f"{total} pictures in {len(self.urls)} shards are fewer than one batch of {batch_size}")
        epoch, place = divmod(step, total // batch_size)
        return epoch, place * batch_size

    def _epoch(self, seed: int, epoch: int, start: int) -> Generator[Place, None, None]:
        """Yield the places of an epoch from picture `start` on, block by block."""
        block, skip = divmod(start, BLOCK)
        stopped = threading.Event()
        pictures = self._in_order(seed, epoch, block * BLOCK, stopped)
        with closing(pictures), ThreadPoolExecutor(1, "stream") as reader:
            following = reader.submit(lambda: list(islice(pictures, BLOCK)))
            try:
                while held := following.result():
                    following = reader.submit(lambda: list(islice(pictures, BLOCK)))
                    order = np.random.default_rng([seed, 5, epoch, block]).permutation(len(held))
                    for index in range(skip, len(held)):
                        yield Place(partial(self._prepared, held), order, index)
                    block, skip = block + 1, 0
            finally:
                stopped.set()

    def _in_order(self, seed: int, epoch: int, start: int, stopped: threading.Event) -> Generator[Encoded, None, None]:
        """Yield the pictures of an epoch as they lie in the shards, from number `start` on."""
        for k in np.random.default_rng([seed, 4, epoch]).permutation(len(self.urls)):
            url, met = self.urls[k], 0
            known = self.counts.get(url)
            if known is not None and known <= start:
                start -= known
                continue
            try:
                for picture in stream(url):
                    if stopped.is_set():
                        return
                    met += 1
                    if met > start:
                        yield picture
            except BrokenShardError as error:
                self.unreadable.add(str(error))
            start = max(0, start - met)
            self._learn(url, met)

    def _learn(self, url: str, count: int) -> None:
        known = self.counts.setdefault(url, count)
        if known != count:
            raise DataError(
                f"{shown(url)}: holds {count} pictures and held {known} before; the shards must not change during a run"
            )
        if self._path:
            write_atomic(self._path, json.dumps({shown(u): n for u, n in sorted(self.counts.items())}, indent=1))

    def _prepared(self, held: list[Encoded], index: int) -> np.ndarray | None:
        try:
            return prepared(held[index].data, self.size, self.crop)
        except UNREADABLE:
            self.unreadable.add(held[index].name)
            return None

    def close(self) -> None:
        """End the transfer; `places` begins it anew."""
        if self._rows is not None:
            self._rows.close()
        self._rows = self._next = None
