"""Many photos, one after another: what is there is skipped, one that fails does not stop the rest."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from manifill.files.pairs import Pair
from manifill.files.results import Output, forget, planned, structure_path
from manifill.networks.atomic import WriteError
from manifill.photos.decode import ImageError
from manifill.photos.encode import Format, check_format, format_for

if TYPE_CHECKING:
    from manifill.inpainter import Completions

FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.EPIPE}


@dataclass
class Tally:
    """What became of the photos: names of those that failed, with the reason."""

    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """How all photos are done: `count` completions each; `existing` says what to do with results that are there."""

    complete: Callable[[Pair], Completions]
    output: Output
    count: int
    format: Format | None = None
    existing: str = "refuse"  # or "skip", "replace"
    alone: bool = False  # one photo was asked for: that it fails is an error

    def to_do(self, pairs: Sequence[Pair]) -> tuple[list[Pair], Tally]:
        """Return the pairs to complete, and a tally of those that are done or that cannot be.

        What would stop all of them is found here, before a model is loaded: raises ImageError, and nothing is written.
        """
        check_format(self.format, self.output.quality)
        tally, waiting = Tally(), []
        for pair in pairs:
            with self.reported(pair, tally):
                if self.existing == "skip" and self.finished(pair):
                    tally.skipped += 1
                    continue
                self.check_names(pair)
                waiting.append(pair)
        if self.existing == "refuse":
            taken = next((path for pair in waiting for path in self.possible(pair) if path.exists()), None)
            if taken:
                raise ImageError(
                    f"{taken}: exists already; name another folder or use --overwrite (nothing was written)"
                )
        return waiting, tally

    def run(self, waiting: Sequence[Pair], tally: Tally, said: Callable[[Path], None]) -> None:
        """Complete these pairs and count them; `said` gets every path that is written."""
        out = self.output.out
        forget(out / self.output.manifest, {p.relative_to(out).as_posix() for q in waiting for p in self.possible(q)})
        for pair in tqdm(waiting, unit="photo", disable=self.alone):
            with self.reported(pair, tally):
                completions = self.complete(pair)
                format = format_for(completions.photo, self.format, self.output.quality)
                mask = "(transparency)" if pair.mask is None else str(pair.mask)
                said(self.output.write(completions, pair.name, mask, format, said))
                tally.done += 1

    def formats(self) -> Sequence[Format]:
        """Return the formats that results may be in: without a choice, PNG or for CMYK TIFF."""
        return [self.format] if self.format else ["png", "tiff"]

    def paths(self, pair: Pair, format: Format) -> list[Path]:
        """Return all files of a pair, the grid, which is written last, at the end."""
        *results, grid = planned(self.output.out, pair.name, self.count, format)
        return [*results, *(structure_path(path) for path in results if self.output.structures), grid]

    def possible(self, pair: Pair) -> list[Path]:
        """Return all files of a pair in every format that they may have."""
        return [path for format in self.formats() for path in self.paths(pair, format)]

    def check_names(self, pair: Pair) -> None:
        """Raise ImageError where the system takes no name as long as that of a result."""
        for path in self.possible(pair):
            there = next(place for place in path.parents if place.exists())  # the system looks at a name only there
            try:
                (there / f"{path.name}.part").exists()
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                raise ImageError(
                    f"{pair.photo}: the result's name is too long for this system, {len(path.name)} "
                    "characters; rename the photo"
                ) from error

    def finished(self, pair: Pair) -> bool:
        """Say whether all files of a pair are there."""
        return any(all(path.exists() for path in self.paths(pair, f)) for f in self.formats())

    @contextlib.contextmanager
    def reported(self, pair: Pair, tally: Tally) -> Iterator[None]:
        """Count a photo that cannot be completed, whatever happened, unless it is the only one.

        What would stop every other photo as well, a full disk or an output that nobody reads, is raised.
        """
        try:
            yield
        except Exception as error:
            if self.alone or getattr(error.__cause__ if isinstance(error, WriteError) else error, "errno", 0) in FATAL:
                raise
            words = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            tally.failures.append(words if str(pair.photo) in words else f"{pair.photo}: {words}")
