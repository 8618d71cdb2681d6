"""Many clients at once, slow ones, and ones that leave; a long run. The server is one as a user has it."""

from __future__ import annotations

import base64
import copy
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import serving
from serving import Process, connect, error, expected, pixels, png, raw, square_hole, until

from manifill import Inpainter
from manifill.web.limits import Limits

CLIENTS = 16


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    """`manifill serve`, which cannot write to any file."""
    with serving.process("--queue", 64) as running:
        yield running


def cases(face: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Photos, holes and seeds that look alike and are to be told apart."""
    photos = (face, np.ascontiguousarray(face[:, ::-1]))
    holes = (square_hole(), square_hole(128, 60, 20, 40))
    return [(photo, hole, seed) for photo in photos for hole in holes for seed in (0, 1, 2)]


@pytest.mark.parametrize(("model", "requests"), [("", 48), pytest.param("faces-128", 200, marks=pytest.mark.slow)])
def test_no_answer_is_lost_or_mixed_up(reference_model: Path, face: np.ndarray, model: str, requests: int) -> None:
    """By a small model, or one that is named."""
    name = model or str(reference_model)
    known = cases(face)
    order = [known[k % len(known)] for k in range(requests)]
    random.Random(0).shuffle(order)

    def client(mine: list[tuple[np.ndarray, np.ndarray, int]]) -> list[tuple[httpx.Response, int]]:
        with httpx.Client(base_url=running.url, timeout=120) as session:
            return [
                (session.post("/api/v1/inpaint", files={"photo": png(p), "mask": png(h)}, data={"seed": str(s)}), s)
                for p, h, s in mine
            ]

    with serving.process("--model", name, "--queue", 64) as running, ThreadPoolExecutor(CLIENTS) as pool:
        began = time.monotonic()
        shares = list(pool.map(client, [order[k::CLIENTS] for k in range(CLIENTS)]))
        print(f"{requests} requests of {CLIENTS} clients in {time.monotonic() - began:.1f} s")
    own = Inpainter.from_pretrained(name, "cpu")
    alone = {id(case): expected(own, case[0], case[1] > 0, case[2]) for case in known}
    numbers = set()
    for k, share in enumerate(shares):
        mine = order[k::CLIENTS]
        assert len(share) == len(mine)
        for case, (answer, seed) in zip(mine, share, strict=True):
            assert (answer.status_code, answer.headers["x-seed"]) == (200, str(seed))
            assert np.array_equal(pixels(answer.content), alone[id(case)])
            numbers.add(answer.headers["x-request-id"])
    assert len(numbers) == requests


@pytest.mark.parametrize("clients", [20, pytest.param(50, marks=pytest.mark.slow)])
def test_clients_that_leave_leave_no_work_behind(server: Process, face: np.ndarray, clients: int) -> None:
    files = {"photo": png(face), "mask": png(square_hole())}
    before = len(server.log)

    def said(word: str) -> int:
        return sum(re.search(rf"job \S+: {word}", line) is not None for line in server.log[before:])

    def leave(k: int) -> None:
        """Wait for an answer, or listen to a job, until everybody does; then go."""
        if k % 2:
            with connect(server.url, raw(server.url, "/api/v1/inpaint", files, num_samples=32)):
                until(lambda: said(r"\d+ samples") == clients)
            return
        with httpx.Client(base_url=server.url, timeout=60) as client:
            job = client.post("/api/v1/jobs", files=files, data={"num_samples": "32"}).json()
            with client.stream("GET", job["events"]) as events:
                next(events.iter_text())
                until(lambda: said(r"\d+ samples") == clients)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(leave, range(clients)))
    until(lambda: said("cancelled") + said("done") == clients)
    assert said("cancelled") > 0.6 * clients  # those who listened have a grace, in which some are served
    running = psutil.Process(server.process.pid)
    until(lambda: running.cpu_percent(interval=1) < 20, 40)  # all that was asked for would take minutes
    assert httpx.post(f"{server.url}api/v1/inpaint", files=files, timeout=60).status_code == 200


def test_slow_clients_delay_nobody(server: Process, face: np.ndarray) -> None:
    files = {"photo": png(face), "mask": png(square_hole())}
    large = {"photo": png(np.tile(face, (10, 10, 1))), "mask": png(np.tile(square_hole(), (10, 10)))}
    whole = raw(server.url, "/api/v1/inpaint", files)
    with ExitStack() as stack, httpx.Client(base_url=server.url, timeout=60) as client:
        job = client.post("/api/v1/jobs", files=large, data={"num_samples": "2", "strategy": "resize"}).json()
        with client.stream("GET", job["events"]) as events:
            assert serving.parse("".join(events.iter_text()))[-1][0] == "done"
        root = f"/api/v1/jobs/{job['id']}"
        for k in range(20):
            slow = stack.enter_context(connect(server.url))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if k % 2:  # sends half of its photo
                slow.sendall(whole[: len(whole) // 2])
            else:  # asks for what it never reads
                path = ("/all.zip", "/completions/0.png", "/events")[k // 2 % 3]
                slow.sendall(f"GET {root}{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        began = time.monotonic()
        for _ in range(3):
            assert client.post("/api/v1/inpaint", files=files).status_code == 200
            assert client.get("/health").status_code == 200
        assert time.monotonic() - began < 25  # seconds; each alone takes a fraction of one, what stalls has 30


def test_uploads_never_touch_the_disk(server: Process) -> None:
    rng = np.random.default_rng(0)
    photo, hole = rng.integers(0, 255, (1200, 1200, 3), dtype=np.uint8), square_hole(1200, 500, 500, 200)
    files = {"photo": png(photo), "mask": png(hole)}
    assert len(files["photo"]) > 4 << 20
    answer = httpx.post(f"{server.url}api/v1/inpaint", files=files, timeout=60)  # the server cannot write a byte
    assert answer.status_code == 200
    assert np.array_equal(pixels(answer.content)[hole == 0], photo[hole == 0])
    assert not [file.path for file in psutil.Process(server.process.pid).open_files() if "tmp" in file.path]


def test_a_burst_beyond_the_queue_is_refused_in_words(inpainter: Inpainter, face: np.ndarray) -> None:
    """While one is being drawn and one waits, all others are refused, and do not wait for either."""
    with serving.here(inpainter, Limits(queue=1)) as tight, ThreadPoolExecutor(12) as pool:
        tight.photo, tight.mask = png(face), png(square_hole())
        tight.gate.open.clear()
        first = pool.submit(tight.post)
        until(lambda: tight.gate.batches)
        burst = [pool.submit(tight.post) for _ in range(11)]
        until(lambda: sum(asked.done() for asked in burst) == 10)
        for asked in burst:
            if asked.done():
                error(asked.result(), 429, "queue is full")
        tight.gate.open.set()
        assert sorted(asked.result().status_code for asked in (first, *burst)) == [200] * 2 + [429] * 10


@pytest.mark.slow
def test_memory_stays_where_it_is_over_500_requests(face: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (600, 900, 3), dtype=np.uint8)
    hole = np.zeros((600, 900), np.uint8)
    hole[200:300, 400:500] = 255
    small, large = ({"photo": png(p), "mask": png(h)} for p, h in ((face, square_hole()), (wide, hole)))
    with serving.process("--memory", 32) as running, httpx.Client(base_url=running.url, timeout=120) as client:

        def ask(k: int) -> None:
            files = large if k % 5 == 0 else small
            if k % 3:
                assert client.post("/api/v1/inpaint", files=files).status_code == 200
                return
            job = client.post("/api/v1/jobs", files=files, data={"num_samples": "2"}).json()
            with client.stream("GET", job["events"]) as events:
                assert "event: done" in "".join(events.iter_text())
            assert client.get(f"/api/v1/jobs/{job['id']}/all.zip").status_code == 200

        memory = []
        for k in range(700):  # the first two hundred fill what is kept, and the allocator's pools
            ask(k)
            if k % 50 == 49:
                memory.append(psutil.Process(running.process.pid).memory_info().rss / 2**20)
    print("resident MiB:", [round(m) for m in memory])
    assert max(memory[4:]) - memory[3] < 16


@pytest.mark.slow
def test_whatever_is_sent_the_server_does_not_fail(tmp_path: Path, face: np.ndarray) -> None:
    """Schemathesis asks what the description allows and what it does not, of nothing and of a real job."""
    pytest.importorskip("schemathesis")
    small = {"photo": png(face[32:96, 32:96]), "mask": png(square_hole(64, 16, 16, 24))}
    with serving.process("--max-samples", 2) as running, httpx.Client(base_url=running.url) as client:
        api = client.get("/openapi.json").json()
        job = client.post("/api/v1/jobs", files=small).json()
        with client.stream("GET", job["events"]) as events:
            assert "event: done" in "".join(events.iter_text())
        known = with_real_things(copy.deepcopy(api), job["id"], small)
        for name, description in (("api", api), ("known", known)):
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(description))
            command = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                path,
                "--url",
                running.url,
                "--checks",
                "all",
                "--exclude-checks",
                "positive_data_acceptance",
                "--max-examples",
                "25",
                "--seed",
                "1",
                "--continue-on-failure",
                "--no-color",
                "--request-timeout",
                "300",
            ]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            print(done.stdout[-600:])
            assert done.returncode == 0, done.stdout
        assert not [line for line in running.log if " ERROR " in line]
        assert client.get(f"/api/v1/jobs/{job['id']}/grid.png").status_code == 200


def with_real_things(api: dict[str, Any], job: str, files: dict[str, bytes]) -> dict[str, Any]:
    """Return a description in which jobs are one that exists, which is not deleted, and pictures are pictures."""
    api["paths"].pop("/api/v1/jobs/{id}")
    for operations in api["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "id":
                    parameter["schema"] = {"type": "string", "enum": [job]}
            content = operation.get("requestBody", {}).get("content", {})
            content.pop("multipart/form-data", None)
            for name, field in content.get("application/json", {"schema": {"properties": {}}})["schema"][
                "properties"
            ].items():
                if name in ("photo", "mask", "part"):
                    field["enum"] = [base64.b64encode(files["photo" if name == "photo" else "mask"]).decode()]
    return api
