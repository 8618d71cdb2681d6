"""The pictures of a training run: in memory when they fit, else decoded when they are asked for; and those held out."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from manifill.data.pictures import JITTER, UNREADABLE, Pictures, decoded, prepared
from manifill.data.sources import DataError, Encoded, Source, shards, shown, sources, stream
from manifill.data.stream import Stream
from manifill.data.unreadable import Unreadable

HELD_OUT = 3000  # pictures at most to validate on: they are kept in memory
SHARE = 0.5  # of the free memory that pictures may take
SAMPLED = 64  # pictures, spread over the set, that stand for it


class Collection:
    """Training pictures by number; an unreadable one keeps its number, is None, and its name is in `unreadable`.

    `digest` names the content and is known in memory alone, `listing_digest` the names and the content of a sample.
    Raises DataError when nothing is readable.
    """

    def __init__(
        self, listing: Sequence[Source], size: int, crop: str, in_memory: bool = True, quiet: bool = False
    ) -> None:
        self.listing, self.size, self.crop, self.in_memory = listing, size, crop, in_memory
        self.listing_digest, self.digest, self.unreadable = listing_digest(listing), None, Unreadable()
        if not in_memory:
            return
        self._held, unreadable = decoded(listing, lambda data: prepared(data, size, crop), quiet)
        for name in unreadable:
            self.unreadable.add(name)
        content = hashlib.sha256()
        for picture in self._held:
            content.update(b"" if picture is None else picture.tobytes())
        self.digest = content.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.listing)

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these pictures from others; a run may go on in memory or from the disk (see `comparable`)."""
        return {"pictures": len(self), "pictures_digest": self.digest, "listing_digest": self.listing_digest}

    def sample(self, count: int) -> Pictures | None:
        """Return up to `count` pictures spread over the set, cut as those that are validated on; None: none readable.

        They are decoded anew, whatever is held, so that the random rules of cropping show the same part each time.
        """
        try:
            return Pictures.of(thin_out(self.listing, count), self.size, quiet=True, crop=self.crop)
        except DataError:
            return None

    def keep(self, folder: Path, write: bool = True) -> None:
        """Write the names of unreadable pictures into `folder`, unless another process does."""
        if write:
            self.unreadable.keep(folder)

    def prepared(self, index: int) -> np.ndarray | None:
        """Return a picture before its window is cut, uint8 (h, w, 3), or None for one that cannot be read."""
        if self.in_memory:
            return self._held[index]
        source = self.listing[index]
        try:
            return prepared(source.read(), self.size, self.crop)
        except UNREADABLE:
            self.unreadable.add(source.name)
            return None


def comparable(before: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two settings of a run without the digests that one of them does not know."""
    unknown = [key for key in ("pictures_digest", "listing_digest") if None in (before.get(key), now.get(key))]
    return before | dict.fromkeys(unknown), now | dict.fromkeys(unknown)


def load(
    data: Sequence[Path | str],
    val: Sequence[Path | str],
    size: int,
    crop: str = "centre",
    limit: int | None = None,
    quiet: bool = False,
) -> tuple[Collection | Stream, Pictures]:
    """Return training and validation pictures; without a validation set every 20th picture, or the last shard, is it.

    At most HELD_OUT pictures are validated on, spread over theirs. Says on the screen how the pictures are held.
    """
    urls = shards(data)
    if urls:
        return streamed(urls, val, size, crop, limit, quiet)
    listing = sources(data)[:limit]
    training, held = (listing, first(val)) if val else divided(listing)
    room = needed(training, size, crop)
    free = int(SHARE * psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    collection = Collection(training, size, crop, room <= free, quiet)
    validation = Pictures.of(mixed(held), size, quiet, crop)
    where = "held in memory" if room <= free else "decoded from the disk as they are needed"
    print(f"{len(training)} pictures to train on, {where}: they take {room / 1e9:.2g} GB and may take {free / 1e9:.2g}")
    tell(validation, len(collection.unreadable.names) if collection.in_memory else None)
    return collection, validation


def tell(validation: Pictures, unreadable: int | None) -> None:
    """Say how many pictures are validated on and how many of all cannot be read; None: not known yet."""
    later = " so far; the others are found as they are read" if unreadable is None else ""
    found = (unreadable or 0) + len(validation.skipped)
    print(f"{len(validation)} pictures to validate on, {found} unreadable{later}")
    for name in validation.skipped[:10]:
        print(f"  unreadable: {name}")


def streamed(
    urls: Sequence[str], val: Sequence[Path | str], size: int, crop: str, limit: int | None, quiet: bool
) -> tuple[Stream, Pictures]:
    """Return training shards and validation pictures of streamed shards."""
    if limit is not None:
        raise DataError("streamed shards have no order to take the first pictures of; name fewer shards")
    if not val and len(urls) == 1:
        raise DataError(f"{shown(urls[0])}: one shard alone; name a validation set with --val")
    training = list(urls) if val else list(urls[:-1])
    validation = Pictures.of(first(val or urls[-1:]), size, quiet, crop)
    print(f"{len(training)} shards to train on, streamed" + ("" if val else "; the last one is held out"))
    tell(validation, None)
    return Stream(training, size, crop), validation


def divided(listing: Sequence[Source], every: int = 20) -> tuple[list[Source], list[Source]]:
    """Return (training, validation) parts: every 20th picture is held out, or fewer than that of very many."""
    every = max(every, -(-len(listing) // HELD_OUT))
    if len(listing) < every:
        raise DataError(f"{len(listing)} pictures are too few to hold some out: name a validation set with --val")
    held = [source for k, source in enumerate(listing) if k % every == every - 1]
    return [source for k, source in enumerate(listing) if k % every < every - 1], held


def first(paths: Sequence[Path | str]) -> Sequence[Source | Encoded]:
    """Return at most HELD_OUT pictures: spread over a listing, or the first ones of streamed shards."""
    urls = shards(paths)
    if not urls:
        listing = sources(paths)
        if len(listing) > HELD_OUT:
            print(f"{HELD_OUT} of {len(listing)} validation pictures are used, at even distances")
        return thin_out(listing, HELD_OUT)
    found: list[Encoded] = []
    for url in urls:
        pictures = stream(url)
        found += islice(pictures, HELD_OUT - len(found))
        pictures.close()
    return found


def thin_out(listing: Sequence[Source], count: int) -> Sequence[Source]:
    """Return at most `count` entries at even distances."""
    if len(listing) <= count:
        return listing
    return [listing[k * len(listing) // count] for k in range(count)]


def mixed(listing: Sequence[Source | Encoded]) -> list[Source | Encoded]:
    """Return a listing in an order of which every beginning is spread over all of it: a preview shows the first ones.

    The order is that of the numbers with their bits reversed (van der Corput's).
    """
    bits = max(1, (len(listing) - 1).bit_length())
    return [listing[k] for k in sorted(range(len(listing)), key=lambda k: f"{k:0{bits}b}"[::-1])]


def needed(listing: Sequence[Source], size: int, crop: str) -> int:
    """Return the bytes that the pictures take in memory; estimated from a sample where they keep their own sizes."""
    side = round(size * JITTER) if crop == "jitter" else size
    each = [3.0 * side * side]
    if crop == "random":
        sides = [found for source in thin_out(listing, SAMPLED) if (found := sides_of(source))]
        each = [3 * w * h * max(1.0, size / min(w, h)) ** 2 for w, h in sides] or each
    return round(float(np.mean(each)) * len(listing))


def sides_of(source: Source) -> tuple[int, int] | None:
    """Return a picture's (width, height) in pixels, or None when it cannot be read."""
    try:
        with Image.open(io.BytesIO(source.read())) as file:
            return file.size
    except UNREADABLE:
        return None


def listing_digest(listing: Sequence[Source]) -> str:
    """Name a listing by all file names and the bytes of a sample: cheap for millions, the same wherever they lie."""
    found = hashlib.sha256()
    for source in listing:
        found.update(os.fsencode(os.path.basename(source.name)) + b"\n")  # noqa: PTH119 (quick, for millions)
    for source in thin_out(listing, SAMPLED):
        try:
            found.update(hashlib.sha256(source.read()).digest())
        except OSError:
            continue
    return found.hexdigest()[:16]
