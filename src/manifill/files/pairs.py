"""Whole folders: which photo goes with which mask, what is done already, and whose share it is."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from manifill.photos.photo import SUFFIXES, ImageError

PHOTOS = SUFFIXES | {".heic", ".heif", ".avif", ".jfif"}

MASKED = re.compile(r"(.+)[_-]mask(\d*)", re.IGNORECASE)  # name_mask, name_mask001 ...


@dataclass(frozen=True)
class Pair:
    """A photo, its mask (None: its transparent part) and what its results are called, relative to the output folder."""

    photo: Path
    mask: Path | None
    name: str


def listed(folder: Path) -> list[Path]:
    """Return all pictures in a folder and its folders, any common extension in any case, by name; none hidden."""
    found = (f for f in folder.rglob("*") if f.suffix.lower() in PHOTOS)
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def pairs(photos: Path, masks: Path | None, out: Path) -> tuple[list[Pair], list[str]]:
    """Pair photos and masks; also return what has no partner, in words. Raises ImageError when nothing is paired.

    `photos` is a picture, a folder, or a .txt list with lines of `photo` or `photo<tab>mask`, relative to the list.
    `masks` is a folder, one picture for all photos, or None. In a folder a mask has the photo's name and place, or lies
    at the top and has its name, or is called name_mask, name_mask001 and so on, which may be several for a photo. What
    is in `out`, the folder of results, is no photo.
    """
    if not photos.exists():
        raise ImageError(f"{photos}: no such photo file")
    if masks is not None and not masks.exists():
        raise ImageError(f"{masks}: no such mask file or folder")
    if photos.suffix.lower() == ".txt" and photos.is_file():
        found, lonely = _from_list(photos, masks)
    elif not photos.is_dir():
        found, lonely = _match([photos], photos.parent, masks)
    else:
        if out.resolve() == photos.resolve():
            raise ImageError(f"{out}: is the folder of photos; name another for the results")
        everything = [p for p in listed(photos) if not p.resolve().is_relative_to(out.resolve())]
        if masks is not None and masks.is_dir():
            everything = _without_masks(everything, photos, masks)
        found, lonely = _match(everything, photos, masks)
    if not found and not lonely:
        raise ImageError(f"{photos}: a folder or list without pictures")
    if not found:
        raise ImageError(f"{photos}: none of {len(lonely)} photos has a mask in {masks} (masks have a photo's name, or "
                         "are called name_mask or name_mask001)")  # fmt: skip
    _check_names(found)
    return found, lonely


def _check_names(found: Sequence[Pair]) -> None:
    taken: dict[str, Pair] = {}
    for pair in found:
        other = taken.setdefault(pair.name, pair)
        if other is not pair:
            raise ImageError(
                f"{pair.photo} and {other.photo}: their results would have one name, {pair.name}; rename one"
            )


def _name(photo: Path, folder: Path) -> str:
    return photo.relative_to(folder).with_suffix("").as_posix()


def _without_masks(everything: Sequence[Path], photos: Path, masks: Path) -> list[Path]:
    """Leave the masks out of a folder's pictures, where they are in it or among the photos."""
    if photos.resolve() == masks.resolve():
        return [p for p in everything if not MASKED.fullmatch(p.stem)]
    if photos.resolve().is_relative_to(masks.resolve()):
        return list(everything)
    return [p for p in everything if not p.resolve().is_relative_to(masks.resolve())]


def _by_name(masks: Path, photos: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the masks in a folder by the names, with their places in it ("a/b"), of the photos that they suit."""
    found: dict[str, list[Path]] = {}
    own = {photo.resolve() for photo in photos}
    for mask in listed(masks):
        if mask.resolve() not in own:
            match = MASKED.fullmatch(mask.stem)
            place = mask.relative_to(masks).parent
            for stem in {mask.stem, match[1] if match else mask.stem}:
                found.setdefault((place / stem).as_posix(), []).append(mask)
    return found


def _match(photos: Sequence[Path], folder: Path, masks: Path | None) -> tuple[list[Pair], list[str]]:
    """Pair photos in a folder with a folder's masks, or with one mask or none."""
    if masks is None or not masks.is_dir():
        return [Pair(photo, masks, _name(photo, folder)) for photo in photos], []
    found, lonely, by_name = [], [], _by_name(masks, photos)
    for photo in photos:
        name = _name(photo, folder)
        own = by_name.get(name) or by_name.get(photo.stem) or []
        if not own:
            lonely.append(f"{photo}: no mask of its name")
        found += _named(photo, own, name)
    return found, lonely


def _named(photo: Path, masks: Sequence[Path], name: str) -> list[Pair]:
    """Return a photo's pairs; where it has several masks, results are called after these."""
    return [
        Pair(photo, mask, name if len(masks) == 1 else (Path(name).parent / mask.stem).as_posix()) for mask in masks
    ]


def _from_list(path: Path, masks: Path | None) -> tuple[list[Pair], list[str]]:
    try:
        lines = [line.strip().split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ImageError(f"{path}: not a list of photos in UTF-8 ({error.reason})") from error
    own: dict[Path, list[Path]] = {}
    for photo, *mask in lines:
        own.setdefault(path.parent / photo.strip(), []).extend(path.parent / m.strip() for m in mask)
    found, lonely = [], []
    for photo, its in own.items():
        more, without = ([], []) if its else _match([photo], photo.parent, masks)
        found += _named(photo, its, photo.stem) + more
        lonely += without
    return found, lonely


def wait_for_others() -> None:
    """Wait until all processes of torchrun or accelerate are here: they stop all others when one ends with an error.

    Does nothing when there is but one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ:
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=timedelta(days=30))
        dist.barrier()
        dist.destroy_process_group()


def share(pairs: Sequence[Pair], shard: str | None) -> tuple[list[Pair], str]:
    """Return this process's pairs and a suffix for files of its own, "" when it has all.

    `shard` is "i/n", counted from 0; without it torchrun's and accelerate's RANK and WORLD_SIZE say. Raises ValueError.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if shard is None and rank is not None and world is not None:
        shard = f"{rank}/{world}"
    if shard is None:
        return list(pairs), ""
    i, n = shard_of(shard)
    return list(pairs[i::n]), f"_{i}of{n}" if n > 1 else ""


def shard_of(shard: str) -> tuple[int, int]:
    """Read "i/n": shard i of n, counted from 0. Raises ValueError."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not int(match[1]) < int(match[2]):
        raise ValueError(f"shard is {shard!r}; expected i/n with i from 0 to n - 1")
    return int(match[1]), int(match[2])
