"""Small uploads that cost much: nobody else waits, the work ends with its client, and memory is counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import serving
from serving import Web, error, png, square_hole, until

from manifill import Inpainter
from manifill.photos import thin
from manifill.web import jobs
from manifill.web.jobs import THIN
from manifill.web.limits import Limits

pytest_plugins = ["web_fixtures"]


def upload(hole: np.ndarray) -> dict[str, bytes]:
    """Return a photo, a ramp, and this hole as files."""
    ramp = np.linspace(0, 255, hole.shape[1]).astype(np.uint8)
    photo = np.ascontiguousarray(np.broadcast_to(ramp[:, None], (*hole.shape, 3)))
    return {"photo": png(photo), "mask": png(hole.astype(np.uint8) * 255)}


def dots(side: int) -> np.ndarray:
    """Return row 21's hole: every fourth pixel."""
    hole = np.zeros((side - 1, side), np.bool_)
    hole[::2, ::2] = True
    return hole


def strip() -> np.ndarray:
    """Return row 22's hole: a strip's, all but the left edge."""
    hole = np.ones((80, 14000), np.bool_)
    hole[:, :10] = False
    return hole


@pytest.mark.slow  # a server of its own that is given seconds of work
@pytest.mark.parametrize("side", [2048, 4096])
def test_dots_and_strips_delay_nobody(reference_model: Path, face: np.ndarray, side: int) -> None:
    """Rows 21 and 22 by the API, beside somebody who asks for a small picture; then SIGTERM in the midst of one."""
    small, costly = {"photo": png(face), "mask": png(square_hole())}, upload(dots(side))
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(3))
        running = stack.enter_context(serving.process("--model", reference_model, "--memory", 1024))
        client = stack.enter_context(httpx.Client(base_url=running.url, timeout=60))
        process = psutil.Process(running.process.pid)

        def leave(files: dict[str, bytes]) -> None:
            """Ask, and do not wait for the answer."""
            with suppress(httpx.HTTPError):
                httpx.post(f"{running.url}api/v1/inpaint", files=files, timeout=2)

        first, before = client.post("/api/v1/inpaint", files=small, data={"seed": "0"}), process.memory_info().rss
        asked, times = [pool.submit(leave, files) for files in (costly, costly, upload(strip()))], []
        while not all(a.done() for a in asked):
            began = time.monotonic()
            answer = client.post("/api/v1/inpaint", files=small, data={"seed": "0"})
            times.append(time.monotonic() - began)
            assert answer.content == first.content
            assert process.memory_info().rss - before < 1 << 30
        print(f"small pictures beside them: {max(times):.2f} s at most")
        assert max(times) < 15
        assert not [a.exception() for a in asked if a.exception()]
        until(lambda: not busy(process))  # when the client has left, the work ends
        pool.submit(leave, costly)
        time.sleep(0.5)
        began = time.monotonic()
        stack.close()
        print(f"ended {time.monotonic() - began:.2f} s after SIGTERM")
        assert time.monotonic() - began < 10


def busy(process: psutil.Process) -> bool:
    """Say whether a process works for more than a tenth of the next half second or so."""
    before = sum(process.cpu_times()[:2])
    time.sleep(0.4)
    return sum(process.cpu_times()[:2]) - before > 0.04


def test_filling_thin_parts_lets_others_pass_and_ends_with_its_client(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, filled, answered, left = thin._filled, [], threading.Event(), threading.Event()

    def held(*tile: np.ndarray) -> np.ndarray:
        filled.append(tile)
        if len(filled) == 4:
            web.lined_up(2)  # somebody else wants a turn
        if len(filled) == 40:  # of 64
            assert answered.wait(120)
            assert left.wait(120)
        return fill(*tile)

    monkeypatch.setattr(jobs, "SLICE", 0)
    monkeypatch.setattr(thin, "TILE", 16)
    monkeypatch.setattr(thin, "_filled", held)
    hole = np.zeros((128, 128), np.bool_)
    hole[::12] = True
    job = web.post("jobs", files=upload(hole)).json()["id"]
    until(lambda: len(filled) > 3)
    assert web.state.jobs.known[job].cost == (3 + 1 + THIN) * hole.size  # photo, hole and what is new of them
    assert web.post().status_code == 200
    answered.set()
    assert web.client.delete(f"/api/v1/jobs/{job}").status_code == 204
    left.set()
    web.lined_up(0)
    assert len(filled) <= 40


def test_what_is_decoded_and_worked_on_counts(small: Inpainter, face: np.ndarray) -> None:
    """By the headers, before anything is decoded; small pictures take no room."""
    hole = np.zeros((1500, 1500), np.bool_)
    hole[700:800, 700:800] = True
    with serving.here(small, Limits(memory_bytes=16 << 20)) as web:  # 54 MB to decode both, less what is free
        web.photo, web.mask = png(face), png(square_hole())
        error(web.post(files=upload(hole)), 413, "MiB", "smaller photo")
        error(web.post(files=upload(hole), extend_left=10**9), 413, "MiB")
        error(web.post(files={"photo": upload(hole)["photo"][:60], "mask": web.mask}), 400)
        assert web.post().status_code == 200
        assert web.state.jobs.reading == 0
    with serving.here(small, Limits(memory_bytes=44 << 20)) as web:
        assert web.post(files=upload(hole)).status_code == 200
        hole[:900] = True
        error(web.post(files=upload(hole), num_samples=4), 413, "MiB")  # what is filled, four times
        assert web.state.jobs.reading == 0
