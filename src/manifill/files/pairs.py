"""Whole folders: which photo goes with which mask, what is done already, and whose share it is."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from manifill.photos.decode import SUFFIXES, ImageError

PHOTOS = SUFFIXES | {".heic", ".heif", ".hif", ".avif", ".jfif", ".jif", ".jfi", ".jpe", ".mpo"}
PHOTOS |= {".gif", ".apng", ".dib"}
BEGINNINGS = re.compile(  # of JPEG, PNG, GIF, BMP, TIFF, PSD, JPEG 2000 and XL, raw files, EXR, HDR, HEIC, AVIF, WebP
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|BM|II[*+U]\0|MM\0[*+]|8BPS|\0\0\0\x0c(jP|JXL )|\xff\x4f\xff\x51|\xff\x0a|IIRO|"
    rb"FUJIFILM|\x76\x2f\x31\x01|#\?RADIANCE|....ftyp(heic|heix|heif|mif1|msf1|avif|avis|crx )|RIFF....WEBP",
    re.DOTALL,
)
MASKED = re.compile(r"(.+)[_-]mask(\d*)", re.IGNORECASE)  # name_mask, name_mask001 ...


@dataclass(frozen=True)
class Pair:
    """A photo, its mask (None: its transparent part) and what its results are called, relative to the output folder."""

    photo: Path
    mask: Path | None
    name: str


def list_pictures(folder: Path, left_out: list[str] | None = None) -> list[Path]:
    """Return all pictures in a folder and its folders, those of links too, by name; none hidden.

    A picture's name ends in a common extension, in any case, or in none and its first bytes are a picture's. What looks
    like a picture and is left out, and folders that cannot be read, are added to `left_out`, in words.
    """
    found, left_out = [], [] if left_out is None else left_out
    for path in _walk(folder, left_out):
        if path.suffix.lower() in PHOTOS or (not path.suffix and _begins_as_picture(path)):
            found.append(path)
        elif _begins_as_picture(path):
            left_out.append(f"{path}: looks like a picture, but its name does not end as one")
    return sorted(found)


def _walk(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """Yield all that is in a folder but folders and what is hidden, through links, each folder once."""
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        left_out.append(f"{error.filename}: a folder that cannot be read ({error.strerror})")

    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        true = os.path.realpath(place)
        if true in seen:  # a link to a folder above it, or to one that is here too
            folders.clear()
            continue
        seen.add(true)
        pictures = [name for name in folders if Path(name).suffix.lower() in PHOTOS]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in [*names, *pictures] if not name.startswith("."))


def _begins_as_picture(path: Path) -> bool:
    """Whether a file begins as a picture does; a file that cannot be read does not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return False
    return BEGINNINGS.match(start) is not None


def pairs(
    photos: Path, masks: Path | None, out: Path, left_out: list[str] | None = None
) -> tuple[list[Pair], list[str]]:
    """Pair photos and masks; also return what has no partner, in words. Raises ImageError when nothing is paired.

    `left_out` gets, in words, what looks like a picture in a folder and is none of its photos.

    `photos` is a picture, a folder, or a .txt list with lines of `photo` or `photo<tab>mask`, relative to the list.
    `masks` is a folder, one picture for all photos, or None. In a folder a mask has the photo's name and place, or lies
    at the top and has its name, or is called name_mask, name_mask001 and so on, which may be several for a photo. Masks
    that lie beside the photos by such names are no photos; without `masks` they are the photos' own. What is in `out`,
    the folder of results, is no photo.
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
        if _true(out) == _true(photos):
            raise ImageError(f"{out}: is the folder of photos; name another for the results")
        everything = [p for p in list_pictures(photos, left_out) if not _true(p).is_relative_to(_true(out))]
        everything, beside = _without_masks(everything, photos, masks)
        found, lonely = _match(everything, photos, masks, beside if masks is None else None)
    if not found and not lonely:
        raise ImageError(f"{photos}: a folder or list without pictures")
    if not found:
        raise ImageError(
            f"{photos}: {masks} has no mask for {'its photo' if len(lonely) == 1 else f'any of {len(lonely)} photos'} "
            "(masks have a photo's name, or are called name_mask or name_mask001)"
        )
    return _told_apart(found), lonely


def _told_apart(found: Sequence[Pair]) -> list[Pair]:
    """Return pairs whose results have names of their own: photos of one name but for the extension keep that, too."""
    counts, taken = Counter(pair.name for pair in found), dict[str, Pair]()
    for pair in found:
        namesake = pair.mask if pair.mask and pair.mask.stem == Path(pair.name).name else pair.photo
        name = pair.name + namesake.suffix if counts[pair.name] > 1 else pair.name
        if name in taken:
            both = f"{pair.photo} and {taken[name].photo}"
            raise ImageError(f"{both}: their results would have one name, {name}; rename one")
        taken[name] = replace(pair, name=name)
    return list(taken.values())


def _true(path: Path) -> Path:
    """Return a path without links; one that leads to itself stays."""
    return Path(os.path.realpath(path))


def _name(photo: Path, folder: Path) -> str:
    return photo.relative_to(folder).with_suffix("").as_posix()


def _without_masks(
    everything: Sequence[Path], photos: Path, masks: Path | None
) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Leave the masks out of a folder's pictures; return the photos, and the masks that lie beside them by name."""
    if masks is not None and _true(photos) == _true(masks):
        return [p for p in everything if not MASKED.fullmatch(p.stem)], {}
    if masks is not None and not _true(photos).is_relative_to(_true(masks)):
        everything = [p for p in everything if not _true(p).is_relative_to(_true(masks))]  # or is the one mask itself
    own: dict[tuple[Path, str], list[Path]] = {(p.parent, _composed(p.stem)): [] for p in everything}
    beside: set[Path] = set()
    for path in everything:
        match = MASKED.fullmatch(path.stem)
        if match and (place := (path.parent, _composed(match[1]))) in own:
            own[place].append(path)
            beside.add(path)
    kept = [p for p in everything if p not in beside]
    return kept, {p: own[p.parent, _composed(p.stem)] for p in kept}


def _by_name(masks: Path, photos: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the masks in a folder by the names, with their places in it ("a/b"), of the photos that they suit."""
    found: dict[str, list[Path]] = {}
    own = {_true(photo) for photo in photos}
    for mask in list_pictures(masks):
        if _true(mask) not in own:
            match = MASKED.fullmatch(mask.stem)
            place = mask.relative_to(masks).parent
            for stem in {mask.stem, match[1] if match else mask.stem}:
                found.setdefault(_composed((place / stem).as_posix()), []).append(mask)
    return found


def _composed(name: str) -> str:
    """Return a name with its accents in one of the two ways to write them: systems differ."""
    return unicodedata.normalize("NFC", name)


def _match(
    photos: Sequence[Path], folder: Path, masks: Path | None, beside: Mapping[Path, Sequence[Path]] | None = None
) -> tuple[list[Pair], list[str]]:
    """Pair photos in a folder with a folder's masks, with one mask, or with those `beside` each, if any."""
    if masks is None or not masks.is_dir():
        return [pair for p in photos for pair in _named(p, (beside or {}).get(p) or [masks], _name(p, folder))], []
    found, lonely, by_name = [], [], _by_name(masks, photos)
    for photo in photos:
        name = _name(photo, folder)
        own = by_name.get(_composed(name)) or by_name.get(_composed(photo.stem)) or []
        if not own:
            lonely.append(f"{photo}: no mask of its name")
        found += _named(photo, own, name)
    return found, lonely


def _named(photo: Path, masks: Sequence[Path | None], name: str) -> list[Pair]:
    """Return a photo's pairs; where it has several masks, results are called after these."""
    return [
        Pair(photo, mask, name if len(masks) == 1 or mask is None else (Path(name).parent / mask.stem).as_posix())
        for mask in masks
    ]


def _from_list(path: Path, masks: Path | None) -> tuple[list[Pair], list[str]]:
    data = path.read_bytes()
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff")) and len(data) % 2 == 0  # as Windows' "Unicode"
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImageError(f"{path}: not a list of photos in UTF-8 ({error.reason})") from error
    own: dict[Path, list[Path]] = {}
    for photo, *mask in (line.strip().split("\t") for line in text.splitlines() if line.strip()):
        own.setdefault(_there(path.parent / photo.strip()), []).extend(_there(path.parent / m.strip()) for m in mask)
    names = _short_names(list(own), path.parent)
    found, lonely = [], []
    for photo, its in own.items():
        if its:
            found += _named(photo, its, names[photo])
            continue
        more, without = _match([photo], photo.parent, masks)
        place = Path(names[photo]).parent
        found += [replace(pair, name=(place / pair.name).as_posix()) for pair in more]
        lonely += without
    return found, lonely


def _there(path: Path) -> Path:
    """Return the path of a file that is there under this name with its accents written in the other way."""
    if not os.path.lexists(path) and not path.name.isascii():
        for form in ("NFC", "NFD"):
            other = Path(unicodedata.normalize(form, str(path)))
            if os.path.lexists(other):
                return other
    return path


def _short_names(photos: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Name the results of listed photos: by their own names, those that several have by their places as well."""
    counts = Counter(photo.stem for photo in photos)
    inside = all(".." not in Path(os.path.relpath(photo, folder)).parts for photo in photos)
    top = str(folder) if inside or not photos else os.path.commonpath([_true(photo).parent for photo in photos])
    places = {photo: Path(os.path.relpath(photo if inside else _true(photo), top)) for photo in photos}
    return {p: p.stem if counts[p.stem] == 1 else places[p].with_suffix("").as_posix() for p in photos}


def wait_for_others() -> None:
    """Wait until all processes of torchrun or accelerate are here: they stop all others when one ends with an error.

    Does nothing when there is but one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ:
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=timedelta(days=30))
        dist.barrier()
        dist.destroy_process_group()


def pairs_of_process(pairs: Sequence[Pair], shard: str | None) -> tuple[list[Pair], str]:
    """Return this process's pairs and a suffix for files of its own, "" when it has all.

    `shard` is "i/n", counted from 0; without it torchrun's and accelerate's RANK and WORLD_SIZE say. Raises ValueError.
    """
    if shard is None and {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        shard = f"{os.environ['RANK']}/{os.environ['WORLD_SIZE']}"
    i, n = (0, 1) if shard is None else shard_of(shard)
    return list(pairs[i::n]), f"_{i}of{n}" if n > 1 else ""


def shard_of(shard: str) -> tuple[int, int]:
    """Read "i/n": shard i of n, counted from 0. Raises ValueError."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not int(match[1]) < int(match[2]):
        raise ValueError(f"shard is {shard!r}; expected i/n with i from 0 to n - 1")
    return int(match[1]), int(match[2])
