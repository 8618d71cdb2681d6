"""What could not be read: said once each, ten names on the screen and all of them in a file."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tqdm import tqdm

SHOWN = 10


class Unreadable:
    """Names of pictures and shards that were skipped, in the order in which they were met; safe among threads."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._path: Path | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str) -> None:
        """Note a name; nothing happens when it is known."""
        with self._lock:
            if name in self.names:
                return
            self.names[name] = None
            if len(self.names) <= SHOWN:
                self._say(name)
            elif len(self.names) == SHOWN + 1:
                self._say(f"more than {SHOWN}; all names are in {self._path or 'unreadable.txt'}")
            self._write([name])

    @staticmethod
    def _say(words: str) -> None:
        if sys.stdout is not None:  # the first of several processes alone has one
            tqdm.write(f"  unreadable: {words}")

    def keep(self, path: Path) -> None:
        """Write all names into `path`, one a line, those that are known and those to come."""
        with self._lock:
            self._path = path
            known = set(path.read_text().splitlines()) if path.exists() else set()
            self._write([name for name in self.names if name not in known])

    def _write(self, names: list[str]) -> None:
        if self._path and names:
            with self._path.open("a") as file:
                file.writelines(f"{name}\n" for name in names)
