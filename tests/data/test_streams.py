"""Streamed shards: the same batches after an interruption, a failed transfer, in broken shards."""

from __future__ import annotations

import functools
import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from picture_sets import steps

from manifill.data import sources as shards_of
from manifill.data import stream
from manifill.data.batches import AHEAD, Batches
from manifill.data.sources import DataError, shards
from manifill.data.stream import Stream


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
