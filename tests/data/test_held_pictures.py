"""In memory, from the disk or streamed; held out; nothing readable: what a training is given."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
import torch
from picture_sets import pack

from manifill.data import dataset
from manifill.data.batches import Batches
from manifill.data.dataset import Collection, comparable, divided, load
from manifill.data.sources import DataError, Source, shards, sources
from manifill.data.stream import Stream
from manifill.train.config import RunOptions
from manifill.train.run import train


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
