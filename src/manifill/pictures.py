"""Pictures from folders, files and tar shards, squared and scaled, in memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from manifill.image import to_tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class DataError(ValueError):
    """Pictures that cannot be used; the message names the path."""


def sources(paths: Sequence[Path]) -> list[tuple[str, Callable[[], bytes]]]:
    """List (name, reader of the encoded bytes) of every picture in folders, tar shards and single files, by name.

    Raises DataError for a path that does not exist or holds no picture.
    """
    found: list[tuple[str, Callable[[], bytes]]] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder (expected a folder of pictures or a .tar shard)")
        before = len(found)
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES)
            found += [(str(f), f.read_bytes) for f in files]
        elif path.suffix == ".tar":
            found += _members(path)
        elif path.suffix.lower() in SUFFIXES:
            found.append((str(path), path.read_bytes))
        if len(found) == before:
            raise DataError(f"{path}: holds no picture (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def _members(path: Path) -> list[tuple[str, Callable[[], bytes]]]:
    try:
        with tarfile.open(path) as tar:
            members = sorted((m.name, m.offset_data, m.size) for m in tar if Path(m.name).suffix.lower() in SUFFIXES)
    except tarfile.TarError as error:
        raise DataError(f"{path}: not a readable tar file ({error})") from error

    def reader(offset: int, size: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with path.open("rb") as f:
                f.seek(offset)
                return f.read(size)

        return read

    return [(f"{path}/{name}", reader(offset, size)) for name, offset, size in members]


def square(data: bytes, size: int) -> np.ndarray:
    """Decode a picture, centre-crop it to a square and scale it: uint8 (size, size, 3)."""
    with Image.open(io.BytesIO(data)) as file:
        picture = ImageOps.exif_transpose(file).convert("RGB")
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


class Pictures:
    """All pictures of a data set in memory as uint8 (N, size, size, 3); unreadable files are skipped and counted.

    Raises DataError when nothing is readable. `digest` names the content: two equal digests, the same pictures.
    """

    def __init__(self, paths: Sequence[Path], size: int, limit: int | None = None, quiet: bool = False) -> None:
        listed = sources(paths)[:limit]
        self.size = size
        self.skipped: list[str] = []
        self.names: list[str] = []
        pictures = []
        with ThreadPoolExecutor() as pool:
            done = pool.map(self._load, listed)
            shown = tqdm(done, total=len(listed), desc="pictures", unit="", disable=quiet, leave=False)
            for (name, _), picture in zip(listed, shown, strict=True):
                if picture is not None:
                    pictures.append(picture)
                    self.names.append(name)
        if not pictures:
            raise DataError(f"{', '.join(map(str, paths))}: none of {len(listed)} pictures could be read")
        self.array = np.stack(pictures)
        self.digest = hashlib.sha256(self.array.tobytes()).hexdigest()[:16]

    def _load(self, source: tuple[str, Callable[[], bytes]]) -> np.ndarray | None:
        try:
            return square(source[1](), self.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.skipped.append(source[0])
            return None

    def __len__(self) -> int:
        return len(self.array)

    def tensor(self, index: Sequence[int] | np.ndarray, flips: np.ndarray | None = None) -> Tensor:
        """Return pictures as (B, 3, size, size) float32 in [-1, 1], mirrored where `flips` is true."""
        batch = self.array[np.asarray(index)]
        if flips is not None:
            batch = np.where(flips[:, None, None, None], batch[:, :, ::-1], batch)
        return to_tensor(batch)

    def split(self, every: int = 20) -> tuple[Pictures, Pictures]:
        """Return (training, validation) parts: every `every`-th picture is held out."""
        held = np.arange(len(self)) % every == every - 1
        if not held.any() or held.all():
            raise DataError(f"{len(self)} pictures are too few to hold some out: name a validation set with --val")
        return self._part(~held), self._part(held)

    def _part(self, which: np.ndarray) -> Pictures:
        part, array = object.__new__(Pictures), self.array[which]
        part.size, part.skipped, part.array = self.size, [], array
        part.names = [name for name, kept in zip(self.names, which, strict=True) if kept]
        part.digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        return part
