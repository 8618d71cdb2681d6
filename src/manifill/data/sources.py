"""Where pictures lie: folders, file lists and tar shards on the disk, and shards that are streamed."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from manifill.config import ManifillWarning
from manifill.photos.decode import SUFFIXES

KEYS = ("file", "path", "file_name")  # of a line of a .jsonl file
SCHEMES = ("http", "https", "file")
SCHEME = r"([a-zA-Z][a-zA-Z0-9+.-]+):"  # two letters: C: is a drive
WAITS = (1, 5)  # seconds before a shard that could not be fetched is asked for again


class DataError(ValueError):
    """Pictures that cannot be used; the message names the path."""


class BrokenShardError(DataError):
    """A shard whose bytes arrived but are no tar file from some place on."""


class Source(NamedTuple):
    """One picture on the disk: a file, or `size` bytes of a tar file from `offset` on."""

    name: str
    path: str
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        """Return the encoded bytes. Raises OSError."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Encoded(NamedTuple):
    """One picture in memory, as it came out of a stream."""

    name: str
    data: bytes

    def read(self) -> bytes:
        return self.data


def is_picture(name: str) -> bool:
    """Whether a name ends as one of the formats that are read."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (a Path for each of millions takes a minute)


def sources(paths: Sequence[Path | str]) -> list[Source]:
    """List every picture in folders, .txt and .jsonl lists, tar shards and single files: path by path, each by name.

    Raises DataError for a path that does not exist, holds no picture or is streamed.
    """
    found: list[Source] = []
    for path in expand(paths):
        if is_streamed(path):
            raise DataError(
                f"{shown(path)}: streamed shards can be trained on and checked, nothing else; expected a path"
            )
        part = _listed(Path(path))
        if not part:
            raise DataError(f"{path}: holds no picture (looked for {', '.join(sorted(SUFFIXES))})")
        found += part
    return found


def _listed(path: Path) -> list[Source]:
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder (expected a folder of pictures, a .tar shard, a .txt or "
            ".jsonl list or a picture)"
        )
    if path.is_dir():
        return [Source(name, name) for name in walk(str(path)) if is_picture(name)]
    if path.suffix == ".tar":
        return _members(path)
    if path.suffix in (".txt", ".jsonl"):
        return _lines(path)
    return [Source(str(path), str(path))] if is_picture(path.name) else []


def walk(folder: str) -> Iterator[str]:
    """Yield every file in a folder and the folders in it, by name; links to folders are not followed."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield entry.path


def _lines(path: Path) -> list[Source]:
    """Read a list: a path a line, or an object a line with the path under one of KEYS, relative to the list."""
    found: list[Source] = []
    folder = str(path.parent)
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:  # names need not be text
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line:
                continue
            try:
                row = {"file": line} if path.suffix == ".txt" else json.loads(line)
                name = next(row[key] for key in KEYS if isinstance(row.get(key), str))
            except (ValueError, AttributeError, StopIteration):
                raise DataError(f"{path}, line {number}: expected an object with one of {', '.join(KEYS)}") from None
            file = os.path.join(folder, name)  # noqa: PTH118
            if not found and not Path(file).is_file():
                raise DataError(f"{path}, line {number}: no such file {file} (paths are relative to the list)")
            found.append(Source(file, file))
    return found


def _members(path: Path) -> list[Source]:
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for m in tar:
                if m.isreg() and is_picture(m.name):
                    found.append((m.name, m.offset_data, m.size))
                tar.members = []  # type: ignore[attr-defined]  # it would keep a kilobyte for each
    except tarfile.TarError as error:
        if not found:
            raise DataError(f"{path}: not a readable tar file ({error})") from error
        warnings.warn(
            f"{path}: ends too soon ({error}); its first {len(found)} pictures are used", ManifillWarning, stacklevel=2
        )
    shard = str(path)
    return [Source(f"{shard}/{name}", shard, offset, size) for name, offset, size in sorted(found)]


def expand(paths: Sequence[Path | str]) -> list[str]:
    """Write out brace patterns, as in train-{000..127}.tar. Raises DataError without the extra [train]."""
    found: list[str] = []
    for path in map(str, paths):
        if "{" not in path or (not is_streamed(path) and Path(path).exists()):
            found.append(path)
            continue
        try:
            from braceexpand import braceexpand
        except ImportError as error:
            raise DataError(f"{shown(path)}: brace patterns need webdataset: pip install 'manifill[train]'") from error
        try:
            found += braceexpand(path)
        except ValueError as error:
            raise DataError(f"{shown(path)}: unbalanced braces") from error
    return found


def is_streamed(path: Path | str) -> bool:
    """Whether it is an address (http:, https:, file:) and not a path; other schemes raise DataError."""
    scheme = re.match(SCHEME, str(path))
    if not scheme or Path(path).exists():
        return False
    if scheme[1] not in SCHEMES:
        known = ", ".join(f"{s}:" for s in SCHEMES)
        raise DataError(f"{shown(str(path))}: shards are streamed from {known}, not {scheme[1]}:")
    return True


def shards(paths: Sequence[Path | str]) -> list[str]:
    """Return the addresses of the streamed shards: all of `paths`, or none. Raises DataError for some of each."""
    every = expand(paths)
    found = [path for path in every if is_streamed(path)]
    if found and len(found) < len(every):
        other = next(path for path in every if path not in found)
        raise DataError(f"{other}: cannot be mixed with streamed shards; expected addresses only, or paths only")
    for url in found:
        parts = urlsplit(url)
        if not parts.path.endswith((".tar", ".tar.gz", ".tgz")) or (parts.scheme != "file" and not parts.netloc):
            raise DataError(f"{shown(url)}: not a shard; expected an address as in https://host/train-000.tar")
    return found


def shown(url: str) -> str:
    """Return an address as it may be shown: without user, password and query, which may hold secrets; a path stays."""
    if not re.match(SCHEME, url):
        return url
    return re.split("[?#]", re.sub(r"^([^/]*//?)(?!/)[^/]*@", r"\1", url))[0]


def last_part(path: Path | str) -> str:
    """Return the last part of a path or an address: what a model card may say of it."""
    return shown(str(path)).rstrip("/").rpartition("/")[2]


def stream(url: str) -> Generator[Encoded, None, None]:
    """Yield the pictures of a streamed shard in its order.

    A transfer that fails is begun again where it stopped, twice; then DataError. Raises BrokenShardError, after the
    pictures before it, where the bytes are no tar file.
    """
    done = 0
    for wait in (*WAITS, None):
        try:
            with closing(_stream_once(url, done)) as pictures:
                for picture in pictures:
                    done += 1
                    yield picture
            return
        except OSError as error:
            if wait is None:
                said = str(error).replace(url, shown(url))  # it holds the command that was run
                raise DataError(f"{shown(url)}: could not be fetched after picture {done} ({said})") from error
            time.sleep(wait)


def _stream_once(url: str, skip: int) -> Generator[Encoded, None, None]:
    name, whole = shown(url), False
    try:
        from webdataset.gopen import gopen
        from webdataset.tariterators import tar_file_iterator
    except ImportError as error:
        raise DataError(f"{name}: streaming needs webdataset: pip install 'manifill[train]'") from error
    try:
        file = gopen(url)
    except FileNotFoundError as error:
        raise DataError(f"{name}: {error.filename} was not found") from error  # the file, or the program curl
    try:
        for member in islice(tar_file_iterator(cast(Any, file), select_files=is_picture), skip, None):
            yield Encoded(f"{name}/{member['fname']}", member["data"])
        whole = True
    except tarfile.TarError as error:
        file.close()  # raises OSError when it was the transfer that failed
        raise BrokenShardError(f"{name}: not a readable tar file from some place on ({error})") from error
    finally:
        _close(file, whole)


def _close(file: Any, whole: bool) -> None:
    """Close a stream; one that is left early must not wait for the rest."""
    if whole or not hasattr(file, "proc"):
        file.close()
        return
    file.proc.kill()
    file.stream.close()
    file.proc.wait()
