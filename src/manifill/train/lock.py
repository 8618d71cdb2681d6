"""One process at a time trains a stage: two in one folder would write over each other's checkpoints and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from manifill.data.pictures import DataError


@contextmanager
def held(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Hold a stage's folder while training; a killed process lets go of it. Raises DataError when another one does.

    Without `wanted` nothing is held: of several processes of one training the first holds it for all.
    """
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise DataError(
            f"{folder}: another process is training here; wait for it, stop it or use another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
