"""What could not be read: said once each, ten names on the screen and all of them in a file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

NAME = "unreadable.txt"
SHOWN = 10


class Unreadable:
    """Names of pictures and shards that were skipped, in the order in which they were met; safe among threads."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Note a name; nothing happens when it is known."""
        with self._lock:
            if name in self.names:
                return
            self.names[name] = None
            count = len(self.names)
            if count <= SHOWN + 1 and sys.stdout is not None:  # the first of several processes alone has one
                more = f"more than {SHOWN}; all names are in {self._folder / NAME if self._folder else NAME}"
                tqdm.write(f"  unreadable: {name if count <= SHOWN else more}")
            self._write([name])

    def keep(self, folder: Path) -> None:
        """Write all names into `folder`, one a line, those that are known and those to come."""
        with self._lock:
            self._folder = folder
            known = set(unreadable_in(folder))
            self._write(name for name in self.names if name not in known)

    def _write(self, names: Iterable[str]) -> None:
        if self._folder and (lines := [f"{name}\n" for name in names]):
            with (self._folder / NAME).open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(lines)


def unreadable_in(run: Path) -> list[str]:
    """Return the names that are kept in a run's folder; they may be of bytes that are no text."""
    path = run / NAME
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []
