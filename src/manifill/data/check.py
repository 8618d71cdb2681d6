"""What is in a set of pictures before one trains on it: sizes, shapes, broken, too small and repeated pictures."""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from manifill.data.pictures import UNREADABLE, opened, square
from manifill.data.sources import BrokenShardError, Encoded, Source, expand, is_picture, shards, sources, stream, walk
from manifill.networks.atomic import write_atomic
from manifill.photos.tensors import grid

CHUNK = 512  # pictures examined before the next are asked for
SAMPLES = 64  # pictures in the grid, eight by eight
CELL = 96  # pixels a picture there
NOTHING = np.empty(0, np.uint8)
BANDS = 4  # of a hash: two that differ in fewer bits than there are bands agree in one of them
WITHIN = 200  # pictures of one band that one picture is compared with
ALIKE = 8.0  # grey levels by which the thumbnails of near-duplicates differ at most, root mean square
UPRIGHT = (5, 6, 7, 8)  # EXIF orientations that swap the sides


class Facts(NamedTuple):
    """What is kept of a picture: `digest` of its file, `shape_hash` and `thumbnail` of what it looks like."""

    name: str
    sides: tuple[int, int]
    format: str
    mode: str
    bytes: int
    digest: bytes
    shape_hash: int
    thumbnail: np.ndarray
    sample: np.ndarray


@dataclass
class Findings:
    """All that was found; groups are lists of numbers into `names`, the first of each the one to keep."""

    names: list[str] = field(default_factory=list)
    sides: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))  # (N, 2): width, height in pixels
    bytes: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    same_file: list[list[int]] = field(default_factory=list)
    same_look: list[list[int]] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)
    lookalikes: list[list[np.ndarray]] = field(default_factory=list)  # a few of `same_look`, to be looked at

    def small(self, least: int) -> list[int]:
        """Return the pictures whose shorter side is below `least` pixels."""
        return np.flatnonzero(self.sides.min(1) < least).tolist() if len(self.sides) else []


def examine(paths: Sequence[Path | str], quiet: bool = False) -> Findings:
    """Decode every picture and return what was found. Raises DataError for paths that do not exist or hold none."""
    found, kept, rng = Findings(), list[Facts](), np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        urls = shards(paths)
        listing = [] if urls else sources(paths)
        examined = _examined(_streamed(urls, found) if urls else listing)
        for picture in tqdm(examined, "pictures", len(listing) or None, unit="", disable=quiet, leave=False):
            if not isinstance(picture, Facts):
                found.broken[picture[0]] = picture[1]
                continue
            place = len(kept) if len(kept) < SAMPLES else int(rng.integers(len(kept) + 1))  # an even draw from all
            if place < SAMPLES:
                found.samples[place : place + 1] = [picture.sample]
            kept.append(picture._replace(sample=NOTHING))  # some hundred bytes of each
    for warning in said:  # of shards that end too soon; Pillow's belong to pictures that could be read
        name, _, words = str(warning.message).partition(": ends too soon")
        if words:
            found.broken[name] = "ends too soon" + words
    found.names, found.bytes = [facts.name for facts in kept], sum(facts.bytes for facts in kept)
    found.formats = Counter(f"{facts.format} {facts.mode}" for facts in kept)
    found.sides = np.array([facts.sides for facts in kept], np.int64).reshape(-1, 2)
    found.same_file, found.same_look = repeated(kept)
    found.ignored = ignored(paths)
    wanted = [[found.names[k] for k in group[:8]] for group in found.same_look[:8]]
    named = {source.name: source for source in listing if any(source.name in group for group in wanted)}
    found.lookalikes = [[square(named[n].read(), CELL) for n in group if n in named] for group in wanted if named]
    return found


def _streamed(urls: Sequence[str], found: Findings) -> Iterator[Encoded]:
    for url in urls:
        try:
            yield from stream(url)
        except BrokenShardError as error:
            name, _, words = str(error).rpartition(": ")
            found.broken[name] = words


def _examined(listing: Iterable[Source | Encoded]) -> Iterator[Facts | tuple[str, str]]:
    """Yield the facts of every picture in order, or (name, what is wrong with it)."""
    pictures = iter(listing)
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(pictures, CHUNK)):
            yield from pool.map(facts_of, chunk)


def facts_of(source: Source | Encoded) -> Facts | tuple[str, str]:
    """Return the facts of a picture, or (name, what is wrong with it)."""
    try:
        data = source.read()
        with Image.open(io.BytesIO(data)) as file:
            w, h = file.size
            sides = (h, w) if file.getexif().get(0x112) in UPRIGHT else (w, h)
            kind, mode = str(file.format), file.mode
        picture = opened(data, CELL)
        sample = square(data, CELL)
    except UNREADABLE as error:
        return source.name, " ".join(str(error).split()) or type(error).__name__
    small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX))
    digest = hashlib.sha256(data).digest()
    return Facts(source.name, sides, kind, mode, len(data), digest, shape_hash(picture), small, sample)


def shape_hash(picture: Image.Image) -> int:
    """Return 64 bits that say where a picture grows lighter from left to right: alike for copies of other sizes."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def repeated(kept: Sequence[Facts]) -> tuple[list[list[int]], list[list[int]]]:
    """Group pictures, by number, whose files are the same, and of the first of each those that look nearly the same."""
    same: dict[bytes, list[int]] = {}
    for k, facts in enumerate(kept):
        same.setdefault(facts.digest, []).append(k)
    first = [group[0] for group in same.values()]
    hashes = np.array([kept[k].shape_hash for k in first], np.uint64)
    near = alike(hashes, np.stack([kept[k].thumbnail for k in first])) if first else []
    return [group for group in same.values() if len(group) > 1], [[first[k] for k in group] for group in near]


def alike(hashes: np.ndarray, thumbnails: np.ndarray) -> list[list[int]]:
    """Group pictures of (N,) uint64 hashes with fewer than BANDS bits apart and thumbnails (N, h, w, 3) alike.

    Finds every such pair, without comparing all: a pair agrees in one band of its hashes. Where more than WITHIN
    pictures agree in a band, each is compared with the WITHIN next by their hashes alone.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    width, count, pairs = 64 // BANDS, len(hashes), [np.empty((2, 0), np.int64)]
    for band in range(BANDS):
        part = (hashes >> np.uint64(width * band)) & np.uint64(2**width - 1)
        order = np.lexsort((hashes, part))
        for further in range(1, min(WITHIN, count - 1) + 1):
            a, b = order[:-further], order[further:]
            meet = part[a] == part[b]
            if not meet.any():
                break
            pairs.append(_near(a[meet], b[meet], hashes, thumbnails))
    a, b = np.concatenate(pairs, axis=1)
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), (count, count)), directed=False)
    order = np.argsort(group, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted(members.tolist() for members in found if len(members) > 1)


def _near(a: np.ndarray, b: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return the pairs of `a` and `b` that are near in both: (2, n)."""
    apart = np.unpackbits((hashes[a] ^ hashes[b]).view(np.uint8).reshape(len(a), 8), axis=1).sum(1)
    a, b = a[apart < BANDS], b[apart < BANDS]
    difference = thumbnails[a].astype(np.float32) - thumbnails[b]
    near = np.sqrt((difference**2).mean((1, 2, 3))) <= ALIKE
    return np.stack([a[near], b[near]])


def ignored(paths: Sequence[Path | str]) -> Counter[str]:
    """Count the files in folders that are not taken for pictures, by the end of their names."""
    folders = [path for path in expand(paths) if Path(path).is_dir()]
    ends = (os.path.splitext(name)[1].lower() for folder in folders for name in walk(folder))  # noqa: PTH122
    return Counter(end or "without one" for end in ends if not is_picture("x" + end))


def told(found: Findings, least: int) -> list[str]:
    """Return what was found, in lines."""
    count = len(found.names)
    small, repeated, near = found.small(least), extra(found.same_file), extra(found.same_look)
    lines = [f"{count} pictures, {found.bytes / 1e6:.4g} MB; {len(found.broken)} broken"]
    lines += [f"  broken: {name} ({words})" for name, words in list(found.broken.items())[:10]]
    if count:
        w, h = found.sides.T
        ratio = w / h
        lines += [
            f"{w.min()} to {w.max()} pixels wide, {h.min()} to {h.max()} high; shorter side "
            f"{np.median(found.sides.min(1)):.0f} in the median; {len(small)} below {least}",
            f"width to height {ratio.min():.2f} to {ratio.max():.2f}: {percent(abs(np.log(ratio)) < 0.05)} square, "
            f"{percent(np.log(ratio) <= -0.05)} upright, {percent(np.log(ratio) >= 0.05)} lying; a centred square "
            f"keeps {(found.sides.min(1) / found.sides.max(1)).mean():.0%} of a picture on average",
            "formats: " + ", ".join(f"{name} {n}" for name, n in found.formats.most_common()),
            f"{repeated} repeated file for file, {near} nearly the same as another",
        ]
    lines += [f"  the same: {', '.join(found.names[k] for k in group)}" for group in found.same_file[:5]]
    lines += [f"  nearly the same: {', '.join(found.names[k] for k in group)}" for group in found.same_look[:5]]
    if found.ignored:
        lines.append("other files, not read: " + ", ".join(f"{end} {n}" for end, n in found.ignored.most_common()))
    return lines


def percent(which: np.ndarray) -> str:
    """Return the fraction of what is true, in per cent."""
    return f"{which.mean():.0%}"


def extra(groups: list[list[int]]) -> int:
    """Return how many pictures could go if one of each group stayed."""
    return sum(len(group) - 1 for group in groups)


def write_findings(found: Findings, least: int, out: Path) -> list[Path]:
    """Write check.json, with every name, and grids of samples and of near-duplicates; return the paths."""
    out.mkdir(parents=True, exist_ok=True)
    names = found.names
    text = json.dumps(
        {
            "pictures": len(names),
            "bytes": found.bytes,
            "formats": found.formats,
            "broken": found.broken,
            "not_read": found.ignored,
            "least": least,
            "small": {names[k]: found.sides[k].tolist() for k in found.small(least)},
            "same_file": [[names[k] for k in group] for group in found.same_file],
            "same_look": [[names[k] for k in group] for group in found.same_look],
        },
        indent=1,
    )
    write_atomic(out / "check.json", text)
    written = [out / "check.json"]
    rows = [found.samples[k : k + 8] for k in range(0, len(found.samples), 8)]
    for name, shown in (("samples.png", rows), ("near_duplicates.png", found.lookalikes)):
        if shown:
            write_atomic(out / name, lambda f, shown=shown: sheet(shown).save(f, "PNG"))
            written.append(out / name)
    return written


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """Lay out rows of (h, w, 3) pictures of one size, shorter rows filled up with white."""
    blank = np.full_like(rows[0][0], 255)
    width = max(map(len, rows))
    full = [[*row, *[blank] * (width - len(row))] for row in rows]
    return grid([np.stack([row[k] for row in full]) for k in range(width)])
