"""Pictures decoded, cropped and scaled; a set of them in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from manifill.data.sources import DataError, Encoded, Source, sources
from manifill.photos.tensors import to_tensor

JITTER = 266 / 256
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for broken files
DEEP = ("I", "I;16", "I;16L", "I;16B", "F")  # pixel formats that Pillow does not scale to 8 bits but cuts off


def opened(data: bytes, least: int | None = None) -> Image.Image:
    """Decode a picture, upright, in RGB; a JPEG may come smaller, its shorter side not below `least` pixels.

    Raises one of UNREADABLE.
    """
    with Image.open(io.BytesIO(data)) as file:
        if file.mode in DEEP:
            raise ValueError(f"pixel format {file.mode}; expected 8 bits a channel")
        if least:
            file.draft("RGB", (least, least))  # decodes a half, a quarter or an eighth, in as much less time
        return ImageOps.exif_transpose(file).convert("RGB")


def prepared(data: bytes, size: int, crop: str) -> np.ndarray:
    """Decode and scale a picture by the rule `crop`: uint8 (h, w, 3), of which windows of `size` pixels are taken.

    Raises one of UNREADABLE.
    """
    if crop == "random":
        picture = opened(data)
        shorter = min(picture.size)
        if shorter < size:  # too small for a window: enlarged until it fits
            sides = [max(size, round(side * size / shorter)) for side in picture.size]
            picture = picture.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
        return np.asarray(picture)
    side = round(size * JITTER) if crop == "jitter" else size
    picture = opened(data, 2 * side)
    if crop == "centre":
        return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS))
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def window(picture: np.ndarray, size: int, place: np.ndarray | None = None) -> np.ndarray:
    """Cut (size, size, 3) out of (h, w, 3): at `place`, two numbers in [0, 1), or in the middle."""
    spare = np.array(picture.shape[:2]) - size
    y, x = spare // 2 if place is None else (place * (spare + 1)).astype(int)
    return picture[y : y + size, x : x + size]


def square(data: bytes, size: int, crop: str = "centre") -> np.ndarray:
    """Decode a picture as it is validated and tested: uint8 (size, size, 3); random rules take the middle or the whole.

    Raises one of UNREADABLE.
    """
    return window(prepared(data, size, "squeeze" if crop == "jitter" else crop), size)


def decoded(
    listing: Sequence[Source | Encoded],
    decode: Callable[[bytes], np.ndarray],
    quiet: bool = False,
    what: str = "pictures could be read",
) -> tuple[list[np.ndarray | None], list[str]]:
    """Decode pictures on all cores, in their order; None where one cannot be read, and the names of those.

    Raises DataError, "none of so many `what`", when nothing is readable.
    """

    def load(source: Source | Encoded) -> np.ndarray | None:
        try:
            return decode(source.read())
        except UNREADABLE:
            return None

    with ThreadPoolExecutor() as pool:
        done = pool.map(load, listing)
        found = list(tqdm(done, total=len(listing), desc="pictures", unit="", disable=quiet, leave=False))
    unreadable = [source.name for source, picture in zip(listing, found, strict=True) if picture is None]
    if len(unreadable) == len(found):
        first = f", {unreadable[0]} the first of them" if unreadable else ""
        raise DataError(f"none of {len(found)} {what}{first}")
    return found, unreadable


class Pictures:
    """All pictures of a set in memory as uint8 (N, size, size, 3); `skipped` names unreadable files.

    `digest` names the content: two equal digests, the same pictures. Raises DataError when nothing is readable.
    """

    in_memory = True

    def __init__(
        self,
        paths: Sequence[Path | str],
        size: int,
        limit: int | None = None,
        quiet: bool = False,
        crop: str = "centre",
        listing: Sequence[Source | Encoded] | None = None,
    ) -> None:
        listing = sources(paths)[:limit] if listing is None else listing
        found, self.skipped = decoded(listing, lambda data: square(data, size, crop), quiet)
        self.size = size
        self.names = [source.name for source, picture in zip(listing, found, strict=True) if picture is not None]
        self.array = np.stack([picture for picture in found if picture is not None])
        self.digest = hashlib.sha256(self.array.tobytes()).hexdigest()[:16]

    @staticmethod
    def of(listing: Sequence[Source | Encoded], size: int, quiet: bool = False, crop: str = "centre") -> Pictures:
        """Return the pictures of a listing."""
        return Pictures((), size, None, quiet, crop, listing)

    def __len__(self) -> int:
        return len(self.array)

    def prepared(self, index: int) -> np.ndarray:
        """Return one picture, uint8 (size, size, 3)."""
        return self.array[index]

    def tensor(self, index: Sequence[int] | np.ndarray) -> Tensor:
        """Return pictures as (B, 3, size, size) float32 in [-1, 1]."""
        return to_tensor(self.array[np.asarray(index)])

    def batches(self, count: int, size: int) -> Iterator[tuple[range, Tensor]]:
        """Yield the first `count` pictures, `size` at a time: their numbers, and as `tensor` gives them."""
        count = min(count, len(self))
        for start in range(0, count, size):
            numbers = range(start, min(start + size, count))
            yield numbers, self.tensor(numbers)
