"""What is in a set of pictures before one trains on it: sizes, shapes, broken, too small and repeated pictures."""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, zip_longest
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
BANDS = 4  # of a hash: two that differ in fewer bits than there are bands agree in one of them
WITHIN = 200  # pictures of one band that one picture is compared with
ALIKE = 8.0  # grey levels by which the thumbnails of near-duplicates differ at most, root mean square
UPRIGHT = (5, 6, 7, 8)  # EXIF orientations that swap the sides


class Facts(NamedTuple):
    """What is kept of a picture, some hundred bytes: `shape_hash` and `thumbnail` are of what it looks like."""

    name: str
    sides: tuple[int, ...]  # width, height
    format: str
    bytes: int
    digest: bytes  # of its file
    shape_hash: int
    thumbnail: np.ndarray


@dataclass
class Findings:
    """All that was found; groups are lists of numbers into `names`, the first of each the one to keep."""

    names: list[str]
    sides: np.ndarray  # (N, 2): width, height in pixels
    bytes: int
    formats: Counter[str]
    broken: dict[str, str]
    ignored: Counter[str]
    same_file: list[list[int]]
    same_look: list[list[int]]
    samples: list[np.ndarray]
    lookalikes: list[list[np.ndarray]]  # a few of `same_look`, to be looked at

    def small(self, least: int) -> list[int]:
        """Return the pictures whose shorter side is below `least` pixels."""
        return np.flatnonzero(self.sides.min(1) < least).tolist()


def examine(paths: Sequence[Path | str], quiet: bool = False) -> Findings:
    """Decode every picture and return what was found. Raises DataError for paths that do not exist or hold none."""
    kept, samples, broken, rng = list[Facts](), list[np.ndarray](), dict[str, str](), np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as said, ThreadPoolExecutor() as pool:
        warnings.simplefilter("always")
        urls = shards(paths)
        listing = [] if urls else sources(paths)
        pictures = _streamed(urls, broken) if urls else iter(listing)
        with tqdm(desc="pictures", total=len(listing) or None, unit="", disable=quiet, leave=False) as bar:
            while chunk := list(islice(pictures, CHUNK)):
                for source, (facts, shown) in zip(chunk, pool.map(facts_of, chunk), strict=True):
                    bar.update()
                    if isinstance(facts, str):
                        broken[source.name] = facts
                        continue
                    # an even sample of all
                    place = len(kept) if len(kept) < SAMPLES else int(rng.integers(len(kept) + 1))
                    if place < SAMPLES:
                        samples[place : place + 1] = [shown]
                    kept.append(facts)
    for warning in said:  # of shards that end too soon; Pillow's belong to pictures that could be read
        name, _, words = str(warning.message).partition(": ends too soon")
        if words:
            broken[name] = "ends too soon" + words
    same_file, same_look = repeated(kept)
    few = [[kept[k].name for k in group[:8]] for group in same_look[:8]]
    named = {source.name: source for source in listing if any(source.name in group for group in few)}
    return Findings(
        names=[facts.name for facts in kept],
        sides=np.array([facts.sides for facts in kept], np.int64).reshape(-1, 2),
        bytes=sum(facts.bytes for facts in kept),
        formats=Counter(facts.format for facts in kept),
        broken=broken,
        ignored=ignored(paths),
        same_file=same_file,
        same_look=same_look,
        samples=samples,
        lookalikes=[[square(named[name].read(), CELL) for name in group] for group in few if named],
    )


def _streamed(urls: Sequence[str], broken: dict[str, str]) -> Iterator[Encoded]:
    for url in urls:
        try:
            yield from stream(url)
        except BrokenShardError as error:
            name, _, words = str(error).rpartition(": ")
            broken[name] = words


def facts_of(source: Source | Encoded) -> tuple[Facts | str, np.ndarray]:
    """Return the facts of a picture, or in words what is wrong with it, and the picture as the grid shows it."""
    try:
        data = source.read()
        with Image.open(io.BytesIO(data)) as file:
            sides = file.size[::-1] if file.getexif().get(0x112) in UPRIGHT else file.size
            kind = f"{file.format} {file.mode}"
        picture, shown = opened(data, CELL), square(data, CELL)
    except UNREADABLE as error:
        return " ".join(str(error).split()) or type(error).__name__, np.empty(0)
    small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX))
    digest = hashlib.sha256(data).digest()
    return Facts(source.name, sides, kind, len(data), digest, shape_hash(picture), small), shown


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
            a, b = a[meet], b[meet]
            differing = np.unpackbits((hashes[a] ^ hashes[b]).view(np.uint8).reshape(len(a), 8), axis=1).sum(1)
            a, b = a[differing < BANDS], b[differing < BANDS]
            difference = thumbnails[a].astype(np.float32) - thumbnails[b]
            near = np.sqrt((difference**2).mean((1, 2, 3))) <= ALIKE
            pairs.append(np.stack([a[near], b[near]]))
    a, b = np.concatenate(pairs, axis=1)
    _, group = connected_components(coo_array((np.ones(len(a)), (a, b)), (count, count)), directed=False)
    order = np.argsort(group, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted(members.tolist() for members in found if len(members) > 1)


def ignored(paths: Sequence[Path | str]) -> Counter[str]:
    """Count the files in folders that are not taken for pictures, by the end of their names."""
    folders = [path for path in expand(paths) if Path(path).is_dir()]
    ends = (os.path.splitext(name)[1].lower() for folder in folders for name in walk(folder))  # noqa: PTH122
    return Counter(end or "without one" for end in ends if not is_picture("x" + end))


def told(found: Findings, least: int) -> list[str]:
    """Return what was found, in lines."""
    count = len(found.names)
    lines = [f"{count} pictures, {found.bytes / 1e6:.4g} MB; {len(found.broken)} broken"]
    lines += [f"  broken: {name} ({words})" for name, words in list(found.broken.items())[:10]]
    if count:
        (w, h), shorter = found.sides.T, found.sides.min(1)
        slant = np.log(w / h)
        even, upright, lying = (f"{f.mean():.0%}" for f in (abs(slant) < 0.05, slant <= -0.05, slant >= 0.05))
        again, near = (sum(len(group) - 1 for group in groups) for groups in (found.same_file, found.same_look))
        lines += [
            f"{w.min()} to {w.max()} pixels wide, {h.min()} to {h.max()} high; shorter side {np.median(shorter):.0f} "
            f"in the median; {len(found.small(least))} below {least}",
            f"width to height {(w / h).min():.2f} to {(w / h).max():.2f}: {even} square, {upright} upright, {lying} "
            f"lying; a centred square keeps {(shorter / found.sides.max(1)).mean():.0%} of a picture on average",
            "formats: " + ", ".join(f"{name} {n}" for name, n in found.formats.most_common()),
            f"{again} repeated file for file, {near} nearly the same as another",
        ]
    for words, groups in (("the same", found.same_file), ("nearly the same", found.same_look)):
        lines += [f"  {words}: {', '.join(found.names[k] for k in group)}" for group in groups[:5]]
    if found.ignored:
        lines.append("other files, not read: " + ", ".join(f"{end} {n}" for end, n in found.ignored.most_common()))
    return lines


def write_findings(found: Findings, least: int, out: Path) -> list[Path]:
    """Write check.json, with every name, and grids of samples and of near-duplicates; return the paths."""
    out.mkdir(parents=True, exist_ok=True)
    names = found.names
    values = {
        "pictures": len(names),
        "bytes": found.bytes,
        "formats": found.formats,
        "broken": found.broken,
        "not_read": found.ignored,
        "least": least,
        "small": {names[k]: found.sides[k].tolist() for k in found.small(least)},
        "same_file": [[names[k] for k in group] for group in found.same_file],
        "same_look": [[names[k] for k in group] for group in found.same_look],
    }
    written = [out / "check.json"]
    write_atomic(out / "check.json", json.dumps(values, indent=1))
    rows = [found.samples[k : k + 8] for k in range(0, len(found.samples), 8)]
    for name, shown in (("samples.png", rows), ("near_duplicates.png", found.lookalikes)):
        if shown:
            picture = sheet(shown)
            write_atomic(out / name, lambda f, picture=picture: picture.save(f, "PNG"))
            written.append(out / name)
    return written


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """Lay out rows of (h, w, 3) pictures of one size, shorter rows filled up with white."""
    blank = np.full_like(rows[0][0], 255)
    return grid([np.stack(column) for column in zip_longest(*rows, fillvalue=blank)])
