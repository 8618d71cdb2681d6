"""Where pictures lie: lists, shards and patterns name the same ones; what is wrong is named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from picture_sets import pack

from manifill.data import sources as shards_of
from manifill.data.dataset import Collection, load
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError, expand, last_part, shards, sources


def test_lists_name_the_same_pictures(photos: Path, tmp_path: Path) -> None:
    files, there = sorted(photos.iterdir()), Pictures([photos], 32, quiet=True)
    (photos.parent / "list.txt").write_text("\n".join(f"{photos.name}/{f.name}" for f in files) + "\n\n")
    (tmp_path / "list.txt").write_text("\n".join(map(str, files)))
    rows = [{KEY: str(file), "label": 3} for file, KEY in zip(files, ("file", "path", "file_name") * 10, strict=True)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pack(files, tmp_path / "all.tar")
    for listed in (photos.parent / "list.txt", tmp_path / "list.txt", tmp_path / "list.jsonl", tmp_path / "all.tar"):
        assert Pictures([listed], 32, quiet=True).digest == there.digest
        assert (
            Collection(sources([listed]), 32, "centre", False).listing_digest
            == Collection(sources([photos]), 32, "centre", False).listing_digest
        )
    for name, text, words in (
        ("gone.txt", "none.png\n", r"gone\.txt, line 1: no such file .*none\.png \(paths are relative to the list\)"),
        ("empty.txt", "\n", r"empty\.txt: holds no picture"),
        ("bad.jsonl", '{"name": "x.png"}\n', r"bad\.jsonl, line 1: expected an object with one of file, path"),
        ("text.jsonl", "x.png\n", r"text\.jsonl, line 1: expected an object"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=words):
            sources([tmp_path / name])


def test_shards_that_end_too_soon_give_what_they_hold(packed: Path, tmp_path: Path) -> None:
    whole = (packed / "train-002.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"cut\.tar: ends too soon .*; its first \d pictures are used"):
        found = sources([tmp_path / "cut.tar"])
    assert 1 < len(found) < 10


def test_patterns_and_addresses(packed: Path) -> None:
    pattern = f"{packed}/train-{{000..002}}.tar"
    assert [p.name for p in map(Path, expand([pattern]))] == [f"train-{k:03d}.tar" for k in range(3)]
    assert len(sources([pattern])) == 30
    address = "https://someone:secret@host/a/train-{00..03}.tar?key=secret"
    assert len(shards([address])) == 4
    assert last_part(address) == "train-{00..03}.tar"
    assert last_part(packed) == packed.name
    for paths, words in (
        (["https://host/a.tar", packed], "cannot be mixed with streamed shards"),
        (["https://host/a.zip"], r"https://host/a\.zip: not a shard"),
        ([Path("https://host/a.tar")], "not a shard; expected an address as in https://"),  # a Path loses a slash
        (["pipe:rm -rf x.tar"], "streamed from http:, https:, file:, not pipe:"),
        (["https://host/{a.tar"], "unbalanced braces"),
    ):
        with pytest.raises(DataError, match=words):
            shards(paths)
    with pytest.raises(DataError, match="streamed shards can be trained on"):
        Pictures(["https://host/a.tar"], 32)


@pytest.mark.parametrize(
    "paths",
    [
        ["https://someone:hidden@host/a.tar?key=hidden"],
        ["https://someone:hidden@host/a.zip?key=hidden"],
        ["https://someone:hidden@host/{a.tar?key=hidden"],
        ["s3://someone:hidden@host/a.tar?key=hidden"],
        [Path("https://someone:hidden@host/a.tar")],
    ],
)
def test_no_error_shows_what_may_be_a_secret(paths: list[str | Path]) -> None:
    for use in (partial(load, val=(), size=32), sources):
        with pytest.raises(DataError, match=r"^(https|s3):/+host/.*: ") as error:
            use(paths)
        assert "hidden" not in str(error.value)


def test_a_failed_transfer_does_not_show_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_of, "WAITS", ())
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.tar: could not be fetched after picture 0") as error:
        list(shards_of.stream("http://someone:hidden@127.0.0.1:9/a.tar?key=hidden"))  # where nobody listens
    assert "hidden" not in str(error.value)
