"""Files that are written whole or not at all, and by one process at a time."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class WriteError(OSError):
    """A file that could not be written; the message names it and says why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: could not be written ({error.strerror or error}); what was there before is kept")


def write_atomic(path: Path, content: bytes | str | Callable[[IO[bytes]], Any]) -> None:
    """Write a file, given its content or what writes it, so that `path` holds the old or the new content, never a part.

    Raises WriteError, as for a full disk, and leaves nothing half written; what a kill leaves ends in .part. The file
    written first has a name that nobody can foresee and is made anew, so that a link in its place is not followed.
    """
    part = path.with_name(f"{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as f:
            if callable(content):
                content(f)
            else:
                f.write(content.encode() if isinstance(content, str) else content)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        cause = _system_error(error) if isinstance(error, Exception) else None
        if cause is None:
            raise
        raise WriteError(path, cause) from error
    _sync_folder(path.parent)


@contextmanager
def locked(path: Path, refusal: Exception, mode: int = 0o644) -> Iterator[None]:
    """Hold the lock whose file is `path`; a killed process lets go of it. Raises `refusal` when another holds it."""
    from filelock import FileLock, Timeout  # loads asyncio, which inpainting does not need

    lock = FileLock(path, mode=mode)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        lock.release()


def remove_stray(path: Path) -> None:
    """Remove what killed writers of this file left half written."""
    for part in path.parent.glob(f"{glob.escape(path.name[:40])}.*part"):
        part.unlink(missing_ok=True)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system that led to `error`: torch.save hides a full disk behind a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _sync_folder(folder: Path) -> None:
    """Make the new name in a folder survive a power cut; only POSIX can be told so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
