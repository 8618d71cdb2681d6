"""Which mask goes with which photo, and whose share of the work it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifill import ImageError
from manifill.files.pairs import Pair, list_pictures, pairs, pairs_of_process, shard_of

NOWHERE = Path("no results here")


def touch(folder: Path, *names: str) -> Path:
    """Make empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def paired(photos: Path, masks: Path | None, out: Path = NOWHERE) -> tuple[dict[str, str], int]:
    """Return {name of the results: mask, relative to the masks} and how many photos have none."""
    found, lonely = pairs(photos, masks, out)
    base = masks if masks is not None and masks.is_dir() else masks.parent if masks else photos
    return {p.name: "" if p.mask is None else p.mask.relative_to(base).as_posix() for p in found}, len(lonely)


def test_masks_have_the_photos_name_and_place(tmp_path: Path) -> None:
    names = ["a.jpg", "b.PNG", "sub/a.webp", "sub/deep/c.tif", "lonely.heic", "sub/b.bmp"]
    masks = ["a.png", "b.jpeg", "sub/a.svg", "sub/a.png", "sub/deep/c.png", "notes.txt"]
    found, lonely = paired(touch(tmp_path / "p", *names), touch(tmp_path / "m", *masks))
    assert found == {
        "a": "a.png",
        "b": "b.jpeg",
        "sub/a": "sub/a.png",
        "sub/deep/c": "sub/deep/c.png",
        "sub/b": "b.jpeg",
    }
    assert lonely == 1


def test_a_mask_in_another_folder_is_of_another_photo(tmp_path: Path) -> None:
    found, lonely = paired(touch(tmp_path / "p", "x/a.png", "y/a.png"), touch(tmp_path / "m", "x/a.png"))
    assert found == {"x/a": "x/a.png"}
    assert lonely == 1


def test_masks_by_their_suffix_and_several_for_a_photo(tmp_path: Path) -> None:
    masks = ["a_mask.png", "b_mask001.png", "b_mask002.png", "c-MASK.png"]
    found, lonely = paired(touch(tmp_path / "p", "a.jpg", "b.jpg", "c.jpg"), touch(tmp_path / "m", *masks))
    assert found == {"a": "a_mask.png", "b_mask001": "b_mask001.png", "b_mask002": "b_mask002.png", "c": "c-MASK.png"}
    assert lonely == 0


def test_masks_among_the_photos(tmp_path: Path) -> None:
    both = touch(tmp_path, "a.jpg", "a_mask.png", "sub/b.jpg", "sub/b_mask.png", "c.jpg")
    assert paired(both, both) == ({"a": "a_mask.png", "sub/b": "sub/b_mask.png"}, 1)


def test_masks_beside_the_photos_are_theirs_and_no_photos(tmp_path: Path) -> None:
    both = touch(
        tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_mask1.png", "b_mask2.png", "c.png", "one.png", "d_mask.png"
    )
    own = {"a": "a_mask.png", "b_mask1": "b_mask1.png", "b_mask2": "b_mask2.png"}
    assert paired(both, None) == (own | {"c": "", "one": "", "d_mask": ""}, 0)
    assert paired(both, both / "one.png") == (dict.fromkeys(["a", "b", "c", "d_mask"], "one.png"), 0)
    elsewhere = touch(tmp_path / "m", "a.png", "c.png")
    assert paired(both, elsewhere) == ({"a": "a.png", "c": "c.png"}, 3)


def test_a_folder_of_masks_in_the_folder_of_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "masks/a.png", "masks/b.png")
    assert paired(tmp_path, tmp_path / "masks") == ({"a": "a.png", "b": "b.png"}, 0)


def test_a_folder_of_photos_in_the_folder_of_masks(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "a.png")
    assert paired(tmp_path / "photos", tmp_path) == ({"a": "a.png"}, 0)


def test_one_mask_for_all_and_none(tmp_path: Path) -> None:
    touch(tmp_path, "p/a.png", "p/sub/b.png", "mask.png")
    assert paired(tmp_path / "p", tmp_path / "mask.png") == ({"a": "mask.png", "sub/b": "mask.png"}, 0)
    assert paired(tmp_path / "p", None) == ({"a": "", "sub/b": ""}, 0)


def test_one_photo_and_a_folder_of_masks(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "m/a_mask1.png", "m/a_mask2.png", "m/b.png")
    assert paired(tmp_path / "a.png", tmp_path / "m") == ({"a_mask1": "a_mask1.png", "a_mask2": "a_mask2.png"}, 0)


def test_hidden_files_and_results_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".cache/b.png", "out/a_000.png", "out/a_grid.png", "c.PNG.part")
    assert paired(tmp_path, None, tmp_path / "out") == ({"a": ""}, 0)
    with pytest.raises(ImageError, match="is the folder of photos; name another"):
        pairs(tmp_path, None, tmp_path)


def test_pictures_are_listed_by_name(tmp_path: Path) -> None:
    names = ["B.JPG", "a.jpeg", "c/d.TIFF", "c.webp", "e.avif", "f.jfif", "g.heif", "h.bmp", "z.png"]
    touch(tmp_path, *names, "i.txt", "j.mp4", "k")
    assert [p.relative_to(tmp_path).as_posix() for p in list_pictures(tmp_path)] == sorted(
        names, key=lambda n: Path(n).parts
    )


def test_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "b.png", "m/m1.png", "m/m2.png", "masks/b.png")
    (tmp_path / "list.txt").write_text("x/a.png\tm/m1.png\n\nx/a.png\tm/m2.png\nb.png\n", encoding="utf-8")
    found, lonely = pairs(tmp_path / "list.txt", tmp_path / "masks", NOWHERE)
    assert [(p.name, p.mask) for p in found] == [
        ("m1", tmp_path / "m/m1.png"),
        ("m2", tmp_path / "m/m2.png"),
        ("b", tmp_path / "masks/b.png"),
    ]
    assert lonely == []
    (found, *_), _ = pairs(tmp_path / "list.txt", tmp_path / "b.png", NOWHERE)
    assert found == Pair(tmp_path / "x/a.png", tmp_path / "m/m1.png", "m1")
    (tmp_path / "list.txt").write_bytes(b"\xff\x00photo.png")
    with pytest.raises(ImageError, match=r"list\.txt: not a list of photos in UTF-8"):
        pairs(tmp_path / "list.txt", None, NOWHERE)


@pytest.mark.parametrize(
    ("names", "masks", "words"),
    [
        (["a.png"], ["b.png"], "has no mask for its photo"),
        (["notes.md"], None, "a folder or list without pictures"),
        ([], None, "no such photo file"),
    ],
)
def test_what_cannot_be_paired(tmp_path: Path, names: list[str], masks: list[str] | None, words: str) -> None:
    folder = touch(tmp_path / "p", *names)
    with pytest.raises(ImageError, match=words):
        pairs(folder, touch(tmp_path / "m", *masks) if masks else None, NOWHERE)


def test_a_mask_that_is_not_there_is_one_error_for_all_photos(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="masks: no such mask file or folder"):
        pairs(touch(tmp_path, "a.png", "b.png"), tmp_path / "masks", NOWHERE)


ALL = [Pair(Path(f"{k}.png"), None, str(k)) for k in range(11)]


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_shares_are_the_whole(n: int) -> None:
    shares = [pairs_of_process(ALL, f"{i}/{n}") for i in range(n)]
    assert sorted((p for mine, _ in shares for p in mine), key=ALL.index) == ALL
    assert len({suffix for _, suffix in shares}) == n
    sizes = [len(mine) for mine, _ in shares]
    assert max(sizes) - min(sizes) <= 1


def test_shares_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert pairs_of_process(ALL, None) == (ALL, "")
    monkeypatch.setenv("RANK", "1")
    assert pairs_of_process(ALL, None) == (ALL, "")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert pairs_of_process(ALL, None) == (ALL[1::3], "_1of3")
    assert pairs_of_process(ALL, "0/2") == (ALL[::2], "_0of2")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert pairs_of_process(ALL, None) == (ALL, "")


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "1", "a/b", "1/0", "1/2/3", "", "0/-1"])
def test_bad_shards(shard: str) -> None:
    with pytest.raises(ValueError, match="expected i/n with i from 0 to n - 1"):
        shard_of(shard)
