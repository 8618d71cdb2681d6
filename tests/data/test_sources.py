"""Data: every source, every way to hold it, the same batches; what is broken is skipped, counted and named."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import pytest
import torch
import tyro
from PIL import Image

from manifill.cli.data import data
from manifill.config import Crop
from manifill.data import dataset, stream
from manifill.data import sources as shards_of
from manifill.data.batches import AHEAD, Batches
from manifill.data.check import examine
from manifill.data.dataset import Collection, comparable, divided, load
from manifill.data.pictures import Pictures, prepared, square, window
from manifill.data.sources import DataError, Source, expand, last_part, shards, sources
from manifill.data.stream import Stream
from manifill.train.config import RunOptions
from manifill.train.run import train


@pytest.fixture(scope="module")
def photos(face: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 photos of different shapes and formats, of which 07 and 11 are broken."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for k in range(30):
        y, x = rng.integers(0, 40, 2)
        h, w = rng.integers(40, 80, 2)
        crop = face[y : y + h, x : x + w].astype(float) * rng.uniform(0.5, 1.2, 3)
        Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(folder / f"{k:02d}.{'jpg' if k % 2 else 'png'}")
    (folder / "07.jpg").write_bytes((folder / "07.jpg").read_bytes()[:700])
    (folder / "11.jpg").write_bytes(b"no picture")
    return folder


def pack(files: list[Path], shard: Path) -> Path:
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    return shard


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the same photos in shards of 11, 9 and 10."""
    folder, files = tmp_path_factory.mktemp("shards"), sorted(photos.iterdir())
    for k, part in enumerate((files[:11], files[11:20], files[20:])):
        pack(part, folder / f"train-{k:03d}.tar")
    return folder


def steps(batches: Batches, which: list[int]) -> list[tuple[bytes, float]]:
    """The pictures of steps, and what their generators give next."""
    with batches:
        return [(image.numpy().tobytes(), float(rng.random())) for image, rng in map(batches, which)]


@pytest.mark.parametrize("crop", get_args(Crop))
def test_batches_do_not_depend_on_how_pictures_are_held(photos: Path, crop: str) -> None:
    listing, which = sources([photos]), [0, 1, 2, 3, 9, 4, 20]
    held = Collection(listing, 32, crop, quiet=True)
    wanted = steps(Batches(held, 4, seed=3, flip=True), which)
    assert len({image for image, _ in wanted}) == len(which)
    for workers in (1, 2, 4):
        read = Collection(listing, 32, crop, in_memory=False)
        assert steps(Batches(read, 4, seed=3, flip=True, workers=workers), which) == wanted
        assert sorted(read.unreadable.names) == sorted(held.unreadable.names) != []
    assert held.listing_digest == read.listing_digest
    assert steps(Batches(held, 4, seed=4, flip=True), which) != wanted


def test_parts_of_a_batch_make_up_the_whole(photos: Path) -> None:
    read = Collection(sources([photos]), 32, "random", in_memory=False)
    with (
        Batches(read, 6, 0, True) as whole,
        Batches(read, 6, 0, True, (0, 2)) as one,
        Batches(read, 6, 0, True, (1, 2)) as two,
    ):
        for step in (0, 1, 7):
            (x, rng), (a, r), (b, s) = whole(step), one(step), two(step)
            assert torch.equal(x, torch.cat([a, b]))
            assert rng.random() == r.random() == s.random()
    with pytest.raises(DataError, match="a batch of 6 pictures cannot be divided among 4"):
        Batches(read, 6, 0, True, (0, 4))


def test_few_batches_are_decoded_ahead(photos: Path) -> None:
    read, asked = Collection(sources([photos]), 32, "centre", in_memory=False), []

    def counted(index: int) -> np.ndarray:
        asked.append(index)
        return np.zeros((32, 32, 3), np.uint8)

    read.prepared = counted  # type: ignore[method-assign]
    with Batches(read, 2, 0, False, workers=2) as batches:
        for step in range(3):
            batches(step)
    assert 6 <= len(asked) <= 2 * (3 + AHEAD)


def test_an_epoch_shows_every_picture_once_and_another_for_a_broken_one(photos: Path) -> None:
    held = Collection(sources([photos]), 32, "squeeze", quiet=True)
    readable = {p.tobytes() for k in range(30) if (p := held.prepared(k)) is not None}
    with Batches(held, 5, 0, False) as batches:
        shown = [
            ((row.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy().tobytes()
            for s in range(6)
            for row in batches(s)[0]
        ]
    assert set(shown) == readable
    assert (len(shown), len(readable)) == (30, 28)


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


def test_crops() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (60, 100, 3), np.uint8)
    assert np.array_equal(prepared(encoded(wide), 32, "random"), wide)  # the paper does not scale Places2, ImageNet
    assert np.array_equal(square(encoded(wide), 32, "random"), wide[14:46, 34:66])
    places = [window(wide, 32, np.array(p)) for p in ((0, 0), (0.9999, 0.9999), (0.5, 0.5))]
    assert np.array_equal(places[0], wide[:32, :32])
    assert np.array_equal(places[1], wide[28:, 68:])
    assert np.array_equal(places[2], wide[14:46, 34:66])
    assert prepared(encoded(wide), 80, "random").shape == (80, 133, 3)  # too small for a window
    assert prepared(encoded(wide), 256, "jitter").shape == (266, 266, 3)  # the paper's CelebA-HQ
    assert np.array_equal(square(encoded(wide), 32, "jitter"), square(encoded(wide), 32, "squeeze"))
    whole = np.asarray(Image.fromarray(wide).resize((32, 32), Image.Resampling.LANCZOS))
    assert np.array_equal(prepared(encoded(wide), 32, "squeeze"), whole)


def test_windows_differ_by_place_and_step_and_follow_from_the_seed(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256].astype(np.uint8)
    for k in range(4):
        Image.fromarray(np.dstack([rows, columns, 0 * rows])).save(tmp_path / f"{k}.png")
    read = Collection(sources([tmp_path]), 32, "random", in_memory=False)
    with Batches(read, 2, 0, False) as batches, Batches(read, 2, 1, False) as others:
        corners = [tuple(row[:2, 0, 0].tolist()) for step in range(8) for row in batches(step)[0]]
        again = [tuple(row[:2, 0, 0].tolist()) for step in (7, 2) for row in batches(step)[0]]
        other = [tuple(row[:2, 0, 0].tolist()) for step in range(8) for row in others(step)[0]]
    assert len(set(corners + other)) == 32
    assert again == corners[14:] + corners[4:6]


def test_large_jpegs_are_decoded_small_and_look_the_same(face: np.ndarray) -> None:
    large = np.asarray(Image.fromarray(face).resize((1024, 1024), Image.Resampling.BICUBIC))
    quick, exact = square(encoded(large, "JPEG"), 64), Image.open(io.BytesIO(encoded(large, "JPEG"))).convert("RGB")
    difference = quick - np.asarray(exact.resize((64, 64), Image.Resampling.LANCZOS)).astype(float)
    assert abs(difference).mean() < 1
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(deep, "PNG")
    with pytest.raises(ValueError, match="pixel format I;16; expected 8 bits"):
        square(deep.getvalue(), 32)


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


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, notes what was asked for, and breaks off in the middle of the names in `cut`, once each."""

    asked: list[str]
    cut: set[str]

    def log_message(self, format: str, *arguments: object) -> None:
        self.asked.append(self.path)

    def copyfile(self, source: io.BufferedReader, outputfile: io.BufferedWriter) -> None:  # type: ignore[override]
        name = self.path.rpartition("/")[2]
        if name in self.cut:
            self.cut.remove(name)
            outputfile.write(source.read(9000))
            self.close_connection = True
        else:
            super().copyfile(source, outputfile)


@pytest.fixture
def server(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Handler]]]:
    """The address of a server of the shards."""
    monkeypatch.setattr(shards_of, "WAITS", (0, 0))
    monkeypatch.setattr(stream, "BLOCK", 8)
    kind = type("Kind", (Handler,), {"asked": [], "cut": set()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(packed))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", kind
        server.shutdown()
        thread.join()


def test_streams_resume_to_the_same_batches(server: tuple[str, type[Handler]], packed: Path, tmp_path: Path) -> None:
    urls = shards([f"{server[0]}/train-{{000..002}}.tar"])
    first = Stream(urls, 32, "random")
    first.keep(tmp_path)
    wanted = steps(Batches(first, 4, 5, True, workers=2), list(range(17)))  # two epochs of seven and a part
    assert len({image for image, _ in wanted}) == 17
    assert json.loads((tmp_path / "shards.json").read_text()) == {
        f"{server[0]}/train-{k:03d}.tar": n for k, n in enumerate((11, 9, 10))
    }
    assert len((tmp_path / "unreadable.txt").read_text().splitlines()) == 2
    files = shards([f"file://{packed}/train-{{000..002}}.tar"])
    for start in (0, 3, 7, 12, 16):
        for known in (True, False):
            again = Stream(urls if known else files, 32, "random")
            if known:
                again.keep(tmp_path)
            server[1].asked.clear()
            assert steps(Batches(again, 4, 5, True, workers=1), list(range(start, 17))) == wanted[start:]
            if known and start == 16:  # pictures 8 to 11 of the third epoch: with what is read ahead, two shards
                assert len(server[1].asked) <= 3
    jumping = steps(Batches(Stream(files, 32, "random"), 4, 5, True), [9, 2, 3, 16])
    assert jumping == [wanted[k] for k in (9, 2, 3, 16)]


def test_known_shards_are_skipped_unread(server: tuple[str, type[Handler]], tmp_path: Path) -> None:
    urls = shards([f"{server[0]}/train-{{000..002}}.tar"])
    (tmp_path / "shards.json").write_text(json.dumps(dict(zip(urls, (11, 9, 10), strict=True))))
    known = Stream(urls, 32, "centre")
    known.keep(tmp_path)
    steps(Batches(known, 1, 0, False), [29 - AHEAD])
    order = [urls[k] for k in np.random.default_rng([0, 4, 0]).permutation(3)]
    assert server[0] + server[1].asked[0] == order[-1]  # the block from picture 24 lies in the last shard
    (tmp_path / "shards.json").write_text(json.dumps(dict(zip(urls, (10, 9, 10), strict=True))))
    other = Stream(urls, 32, "centre")
    other.keep(tmp_path)
    with pytest.raises(DataError, match=r"train-000\.tar: holds 11 pictures and held 10 before"):
        steps(Batches(other, 4, 0, False), list(range(7)))
    (tmp_path / "shards.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"shards\.json: expected the number of pictures by shard"):
        other.keep(tmp_path)


def test_a_failed_transfer_is_taken_up_where_it_stopped(server: tuple[str, type[Handler]], packed: Path) -> None:
    wanted = [p for k in range(3) for p in shards_of.stream(f"file://{packed}/train-{k:03d}.tar")]
    server[1].cut |= {"train-000.tar", "train-002.tar"}
    found = [p for k in range(3) for p in shards_of.stream(f"{server[0]}/train-{k:03d}.tar")]
    assert [p.data for p in found] == [p.data for p in wanted]
    assert [p.name.rpartition("/")[2] for p in found] == [p.name.rpartition("/")[2] for p in wanted]
    assert len(server[1].asked) == 5
    with pytest.raises(DataError, match=r"none\.tar: could not be fetched after picture 0"):
        list(shards_of.stream(f"{server[0]}/none.tar"))
    with pytest.raises(DataError, match="was not found"):
        list(shards_of.stream(f"file://{packed}/none.tar"))
    early = shards_of.stream(f"{server[0]}/train-000.tar")
    next(early)
    early.close()


def test_a_broken_shard_is_left_where_it_breaks(packed: Path, tmp_path: Path) -> None:
    for k in range(3):
        data = (packed / f"train-{k:03d}.tar").read_bytes()
        (tmp_path / f"{k}.tar").write_bytes(data[: 20000 if k == 1 else None])
    broken = Stream(shards([f"file://{tmp_path}/{{0..2}}.tar"]), 32, "centre")
    wanted = steps(Batches(broken, 4, 0, False), list(range(8)))
    assert 21 < sum(broken.counts.values()) < 30
    assert any("1.tar: not a readable tar file from some place on" in name for name in broken.unreadable.names)
    assert steps(Batches(Stream(broken.urls, 32, "centre"), 4, 0, False), [5]) == wanted[5:6]


def test_what_cannot_be_read_at_all_ends_the_run(photos: Path, tmp_path: Path) -> None:
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"none of 4 pictures could be read, .*0\.png the first of them"):
        Collection(sources([tmp_path]), 32, "centre", quiet=True)
    with (
        pytest.raises(DataError, match="none of 4 pictures could be read"),
        Batches(Collection(sources([tmp_path]), 32, "centre", in_memory=False), 2, 0, False) as batches,
    ):
        batches(0)
    short = Stream(shards([f"file://{pack(sorted(photos.iterdir())[:3], tmp_path / 'short.tar')}"]), 32, "centre")
    with (
        pytest.raises(DataError, match="3 pictures in 1 shards are fewer than one batch of 4"),
        Batches(short, 4, 0, False) as few,
    ):
        few(0)


def test_choice_between_memory_and_disk(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    held, val = load([photos], (), 32, quiet=True)
    assert (held.in_memory, len(val)) == (True, 1)
    said = capsys.readouterr().out
    assert "29 pictures to train on, held in memory" in said
    assert "2 unreadable" in said
    assert "unreadable: " + str(photos / "07.jpg") in said
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2 * 29 * 32 * 32 * 3 - 2})())
    read, same = load([photos], (), 32, quiet=True)
    assert (read.in_memory, same.digest) == (False, val.digest)
    assert "29 pictures to train on, decoded from the disk as they are needed" in capsys.readouterr().out
    big, _ = load([photos], (), 32, crop="random", quiet=True)
    assert not big.in_memory
    one, other = ({"pictures_digest": None, "steps": 1} | c.identity for c in (held, read))
    assert dict.__eq__(*comparable(one, other))
    fewer, _ = load([photos], (), 32, limit=25, quiet=True)
    assert not dict.__eq__(*comparable(fewer.identity, other))


def test_held_out_pictures_are_bounded(monkeypatch: pytest.MonkeyPatch, photos: Path, packed: Path) -> None:
    listing = [Source(str(k), str(k)) for k in range(1000)]
    training, held = divided(listing)
    assert [int(s.name) for s in held] == list(range(19, 1000, 20))
    assert len(training) + len(held) == 1000
    monkeypatch.setattr(dataset, "HELD_OUT", 7)
    assert len(divided(listing)[1]) == 6
    assert len(load([photos], [photos], 32, quiet=True)[1]) <= 7
    streamed, val = load([f"file://{packed}/train-{{000..002}}.tar"], (), 32, quiet=True)
    assert isinstance(streamed, Stream)
    assert (len(streamed.urls), len(val)) == (2, 7)
    assert val.names[0].startswith(streamed.urls[0].replace("000", "002"))
    with pytest.raises(DataError, match="one shard alone; name a validation set"):
        load([f"file://{packed}/train-000.tar"], (), 32)


def test_training_from_disk_and_stream(
    pictures: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the disk a run ends with the weights of one in memory, also when it changes over; streamed ones resume."""
    from safetensors.torch import load_file

    def weights(out: Path) -> dict[str, torch.Tensor]:
        return load_file(out / "model" / "vqvae.safetensors")

    def run(out: str, data: list[str], steps: int, crop: str = "jitter", **options: int) -> Path:
        settings = RunOptions(quiet=True, force=True, steps=steps, checkpoint_every=2, crop=crop, **options)  # type: ignore[arg-type]
        train(("vqvae",), data, tmp_path / out, "tiny", settings, [pictures])
        return tmp_path / out

    def equal(a: Path, b: Path) -> bool:
        return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))

    here, urls = [str(pictures)], [f"file://{packed}/train-{{000..001}}.tar"]
    memory = run("memory", here, 4)
    run("mixed", here, 2)
    run("streamed", urls, 2)
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0})())
        disk = run("disk", here, 4, workers=2)
        mixed = run("mixed", here, 4)
    assert equal(memory, disk)
    # the cosine schedule of a shorter run differs, so the changed run is compared with one changed in memory
    run("other", here, 2)
    assert equal(mixed, run("other", here, 4))
    with pytest.raises(DataError, match="crop: jitter then, centre now"):
        run("memory", here, 4, "centre")
    streamed = run("streamed", urls, 8)
    assert (streamed / "shards.json").exists()
    assert "07.jpg" in (streamed / "unreadable.txt").read_text()
    assert json.loads((streamed / "vqvae" / "config.json").read_text())["pictures"] == "streamed"


@pytest.fixture
def mess(tmp_path: Path, face: np.ndarray) -> Path:
    """A folder with something of everything that a check must find."""
    folder = tmp_path / "mess"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(6):  # different pictures
        y, x = rng.integers(0, 60, 2)
        turned = np.rot90(face[y : y + 64, x : x + 64], k % 4)
        Image.fromarray((turned * rng.uniform(0.6, 1, 3)).astype(np.uint8)).save(folder / f"{k}.png")
    Image.fromarray(face).save(folder / "face.png")
    Image.fromarray(face).save(folder / "sub" / "again.jpg", quality=60)
    Image.fromarray(face).resize((80, 80), Image.Resampling.LANCZOS).save(folder / "sub" / "small.png")
    (folder / "sub" / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "half.jpg").write_bytes((folder / "sub" / "again.jpg").read_bytes()[:900])
    Image.fromarray(face[:30, :90]).save(folder / "wide.png")
    upright = Image.Exif()
    upright[0x112] = 6
    Image.fromarray(np.ascontiguousarray(face[:40, :100][:, ::-1])).save(folder / "turned.jpg", exif=upright)
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    Image.new("RGB", (64, 64), "blue").save(folder / "blue.png")  # no shape at all, and still not the same
    (folder / "notes.txt").write_text("mine")
    (folder / "one.HEIC").write_bytes(b"...")
    return folder


def test_check_finds_what_is_wrong(mess: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = examine([mess], quiet=True)
    short = [str(Path(name).relative_to(mess)) for name in found.names]
    assert list(found.broken) == [str(mess / "half.jpg")]
    assert [[short[k] for k in group] for group in found.same_file] == [["0.png", "sub/copy.png"]]
    assert [[short[k] for k in group] for group in found.same_look] == [["face.png", "sub/again.jpg", "sub/small.png"]]
    assert [short[k] for k in found.small(50)] == ["turned.jpg", "wide.png"]
    assert found.sides[short.index("turned.jpg")].tolist() == [40, 100]  # as it is seen
    assert found.ignored == {".txt": 1, ".heic": 1}

    out = tmp_path / "out"
    assert tyro.cli(data, args=["check", str(mess), "--size", "50", "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().out
    for words in (
        "14 pictures",
        "1 broken",
        "half.jpg (image file is truncated",
        "2 below 50",
        "1 repeated file for file",
        "2 nearly the same",
        ".heic 1",
        "30 to 128 high",
    ):
        assert words in said
    written = json.loads((out / "check.json").read_text())
    assert list(written["small"]) == [str(mess / "turned.jpg"), str(mess / "wide.png")]
    for name, rows in (("samples.png", 2), ("near_duplicates.png", 1)):
        with Image.open(out / name) as sheet:
            assert sheet.height == rows * 98 + 2


def test_check_exit_codes_and_sources(
    packed: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tyro.cli(data, args=["check", str(pictures), "--quiet"]) == 0
    one, other = examine([packed / "train-000.tar"], True), examine([f"file://{packed}/train-000.tar"], True)
    assert len(one.names) == len(other.names) == 10
    assert len(one.broken) == len(other.broken) == 1
    cut = tmp_path / "cut.tar"
    cut.write_bytes((packed / "train-002.tar").read_bytes()[:30000])
    assert list(examine([cut], True).broken)[-1] == str(cut)
    monkeypatch.setattr(shards_of, "WAITS", ())
    assert f"file://{cut}" in examine([f"file://{cut}"], True).broken
    for arguments in ([], [str(tmp_path / "none")]):
        with pytest.raises(DataError, match=r"name a folder|no such file"):
            tyro.cli(data, args=["check", *arguments])
