"""Reading training pictures: how many a core decodes, from files and from shards, and how long a batch takes.

    python benchmarks/data.py DATA [...] [--size 256] [--crop centre] [--batch 8] [--pictures 400]

DATA as for `manifill train --data`. All with one thread: multiply by the cores that are free beside the training.
Times are those of the processor, which other jobs disturb little; reading from a slow disk or network is not in them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
from sampling import table

from manifill.config import Crop
from manifill.data import masks
from manifill.data.dataset import thin_out
from manifill.data.pictures import prepared, window
from manifill.data.sources import Encoded, Source, shards, sources, stream
from manifill.photos.tensors import to_tensor


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of a run."""
    began = time.process_time()
    work()
    return time.process_time() - began


def as_files(listing: Sequence[Source], folder: Path) -> list[Source]:
    """Write pictures as files of their own and return these."""
    for k, source in enumerate(listing):
        (folder / f"{k:06d}{Path(source.name).suffix}").write_bytes(source.read())
    return sources([folder])


def reading(listing: Sequence[Source], tars: Sequence[Path]) -> list[list[str]]:
    """Return rows with the processor time of reading alone: bytes of members, of files and of streamed shards."""
    rows = [["members of shards, or what was given", each(listing, lambda: [s.read() for s in listing])]]
    with TemporaryDirectory() as folder:
        files = as_files(listing, Path(folder))
        rows.append(["single files", each(files, lambda: [s.read() for s in files])])
    streamed: list[Encoded] = []
    urls = shards([path.resolve().as_uri() for path in tars])
    spent = seconds(lambda: [streamed.extend(stream(url)) for url in urls])
    if streamed:
        rows.append(["streamed shards", f"{spent / len(streamed) * 1e3:.3f}"])
    return rows


def each(listing: Sequence[object], work: Callable[[], object]) -> str:
    """Return milliseconds for each of a listing."""
    return f"{seconds(work) / len(listing) * 1e3:.3f}"


def decoding(listing: Sequence[Source], size: int, crop: str) -> tuple[list[list[str]], list[np.ndarray]]:
    """Return the row of decoding and scaling, and windows of the pictures."""
    data, found = [s.read() for s in listing], []
    spent = seconds(lambda: found.extend(prepared(d, size, crop) for d in data)) / len(data)
    weight = sum(len(d) for d in data) / len(data)
    sides = np.mean([np.shape(p)[:2] for p in found], axis=0)
    row = [
        f"decoding, scaling ({weight / 1e3:.0f} kB, to {sides[1]:.0f}x{sides[0]:.0f} on average)",
        f"{spent * 1e3:.3f}",
    ]
    return [row, ["pictures/s of a core", f"{1 / spent:.0f}"]], [window(p, size) for p in found]


def batching(pictures: Sequence[np.ndarray], size: int, batch: int) -> list[list[str]]:
    """Return rows for what makes a batch of decoded pictures, and its masks."""
    kinds, rng = ("rectangle", "brush"), np.random.default_rng(0)
    groups = [pictures[k : k + batch] for k in range(0, len(pictures) - batch + 1, batch)]
    stacked = seconds(lambda: [to_tensor(np.stack(group)) for group in groups]) / len(groups)
    drawn = seconds(lambda: [masks.draw(kinds, batch, size, rng) for _ in groups]) / len(groups)
    return [
        [f"a batch of {batch}: stacking to float32", f"{stacked / batch * 1e3:.3f}"],
        [f"a batch of {batch}: masks", f"{drawn / batch * 1e3:.3f}"],
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--crop", choices=get_args(Crop), default="centre")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=400, help="at most so many, spread over the set")
    a = parser.parse_args()
    listing = thin_out(sources(a.data), a.pictures)
    rows, pictures = decoding(listing, a.size, a.crop)
    rows = reading(listing, [path for path in a.data if path.suffix == ".tar"]) + rows
    print(f"{len(listing)} pictures, {a.size} pixels, {a.crop}\n")
    table(["", "ms of a processor a picture"], rows + batching(pictures, a.size, a.batch))


if __name__ == "__main__":
    main()
