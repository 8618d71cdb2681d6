"""Servers for the tests of `manifill.web`: one in this process, whose insides can be seen, and one as a user has it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import uvicorn
from PIL import Image
from torch import Tensor

from manifill import Inpainter
from manifill.cli.serve import HOW, listen
from manifill.config import SamplingOptions
from manifill.sampling.naive import Sampled
from manifill.web.app import create_app
from manifill.web.jobs import Job
from manifill.web.limits import Limits
from manifill.web.security import Access
from manifill.web.server import Server

LIMITS = Limits(pixels=1 << 20, samples=6, queue=4, body_bytes=4 << 20, memory_bytes=64 << 20, grace_seconds=0.3)
AT_ONCE = 4  # structures drawn in one batch here: enough to see who shares one
NOBODY = "/api/v1/jobs/AAAAAAAAAAAAAAAAAAAAAA"
SERVE = """
import resource, sys
from manifill.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte may be written to any file
files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv.pop(1)) or files[0], files[1]))
sys.exit(main())
"""


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def square_hole(size: int = 128, top: int = 32, left: int = 32, side: int = 64) -> np.ndarray:
    hole = np.zeros((size, size), np.uint8)
    hole[top : top + side, left : left + side] = 255
    return hole


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


class Gate:
    """Stands between the batcher and a real model: notes the batches' sizes, can hold them back, can fail."""

    def __init__(self, inpainter: Inpainter) -> None:
        self.sample = inpainter.sample
        self.open, self.batches = threading.Event(), []
        self.failing: Callable[[Tensor], bool] = lambda noise: False
        self.open.set()

    def __call__(self, cond: Tensor, known: Tensor | None, noise: Tensor, options: SamplingOptions) -> Sampled:
        self.batches.append(len(noise))
        assert self.open.wait(120)
        if self.failing(noise):
            raise RuntimeError("the model is broken")
        return self.sample(cond, known, noise, options)


@dataclass
class Web:
    """A running server: where it is, a client, and, in this process, its insides."""

    url: str
    client: httpx.Client
    state: Server
    gate: Gate
    photo: bytes = field(repr=False, default=b"")
    mask: bytes = field(repr=False, default=b"")

    def post(self, path: str = "inpaint", files: dict[str, bytes] | None = None, **fields: Any) -> httpx.Response:
        """Send the photo and its mask, or other files, as a form."""
        files = {"photo": self.photo, "mask": self.mask} if files is None else files
        return self.client.post(f"/api/v1/{path}", files=files, data={k: str(v) for k, v in fields.items()})

    def job(self, **fields: Any) -> str:
        """Start a job and return its path."""
        answer = self.post("jobs", **fields)
        assert answer.status_code == 202, answer.text
        return f"/api/v1/jobs/{answer.json()['id']}"

    def held(self, job: str) -> Job:
        """Return what the server knows of a job."""
        return self.state.jobs.known[job.rpartition("/")[2]]

    def lined_up(self, jobs: int) -> None:
        """Wait until the threads of so many jobs have the turn at the model or wait for it."""
        turn = self.state.jobs.batcher.turn
        until(lambda: turn.asked - turn.serving == jobs)

    def events(self, job: str, **headers: str) -> list[tuple[str, dict[str, Any]]]:
        """Listen to a job until it ends."""
        with self.client.stream("GET", f"{job}/events", headers=headers) as response:
            assert response.status_code == 200
            return parse("".join(response.iter_text()))


def parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the (kind, data) of server-sent events."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


@contextmanager
def here(inpainter: Inpainter, limits: Limits, access: Access | None = None, root_path: str = "") -> Iterator[Web]:
    """Serve in a thread of this process."""
    gate, sample = Gate(inpainter), inpainter.sample
    inpainter.sample = gate  # type: ignore[method-assign]
    listening = listen("127.0.0.1", 0)
    app = create_app([inpainter], limits, access or Access(), root_path)
    server = uvicorn.Server(uvicorn.Config(app, **HOW))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            until(lambda: server.started)
            gate.batches.clear()  # the example
            yield Web(url, client, app.app.state.server, gate)  # type: ignore[attr-defined]
    finally:
        gate.open.set()
        server.should_exit = True
        thread.join(120)
        inpainter.sample = sample  # type: ignore[method-assign]
        listening.close()


@dataclass
class Process:
    """A server in a process of its own; `log` grows with its lines."""

    url: str
    process: subprocess.Popen[str]
    log: list[str]


@contextmanager
def process(*arguments: object, files: int = 0, token: str = "") -> Iterator[Process]:
    """Run `manifill serve`, which may not write to any file, and have so many open at most."""
    command = [sys.executable, "-c", SERVE, str(files), "serve", "--port", "0", *map(str, arguments)]
    env = os.environ | ({"MANIFILL_TOKEN": token} if token else {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        lines: list[str] = []
        reader = threading.Thread(target=lines.extend, args=(running.stderr,))
        reader.start()
        try:
            first = running.stdout.readline()
            assert first.startswith("manifill: http://"), lines
            yield Process(first.removeprefix("manifill: ").strip(), running, lines)
        finally:
            ended = running.poll()
            running.terminate()
            running.wait(60)
            reader.join(60)
            assert ended is None, f"the server ended with {ended}: {lines[-20:]}"


def raw(url: str, path: str, files: dict[str, bytes], **fields: object) -> bytes:
    """Return a form's request as it goes over the wire."""
    request = httpx.Request("POST", url.rstrip("/") + path, files=files, data={k: str(v) for k, v in fields.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def connect(url: str, sent: bytes = b"") -> socket.socket:
    """Open a connection and send something."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60)
    connection.sendall(sent)
    return connection


def expected(faces: Inpainter, face: np.ndarray, hole: np.ndarray, seed: int, **options: object) -> np.ndarray:
    """What the library alone gives for a seed."""
    return np.asarray(next(iter(faces(face, hole, num_samples=1, seed=seed, **options))).image)  # type: ignore[arg-type]


def error(response: httpx.Response, status: int, *words: str) -> None:
    """Check that a refusal is in words and numbered."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error", "request_id"}
    assert answer["request_id"] == response.headers["x-request-id"]
    assert all(word in answer["error"] for word in words), answer["error"]
    assert len(answer["error"]) > 10
