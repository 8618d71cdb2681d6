"""`manifill data check`: what is in a set of pictures before one trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from manifill.cli.options import FOLDER, check_folder, plainly


@plainly
def data(
    action: Positional[Literal["check"]],
    paths: Annotated[Positional[tuple[str, ...]], arg(help_behavior_hint="(required)")],
    /,
    *,
    size: int = 128,
    out: Annotated[Path | None, FOLDER] = None,
    quiet: bool = False,
) -> int:
    """Report sizes, shapes, broken, too small and repeated pictures; the exit code is 1 when some are broken.

    Args:
        action: check.
        paths: Folders, .txt and .jsonl lists, .tar shards, pictures, or addresses of shards (https://host/{000..127}.tar).
        size: Side of the pictures to train on; smaller ones are counted.
        out: Folder for check.json with every name, a grid of samples and one of near-duplicates.
        quiet: No progress bar.

    """
    if out is not None:
        check_folder(out)
    from manifill.data.check import examine, told, write_findings
    from manifill.data.sources import DataError

    if not paths:
        raise DataError("name a folder, a list or a shard to check")
    found = examine(paths, quiet)
    print("\n".join(told(found, size)))
    if out is not None:
        print("\n".join(map(str, write_findings(found, size, out))))
    return 1 if found.broken else 0
