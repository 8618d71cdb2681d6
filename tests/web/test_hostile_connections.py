"""Clients that send nothing, half of something, or very slowly, and answers that do not wait."""

from __future__ import annotations

import signal
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import serving
from serving import Process, connect

from manifill import Inpainter
from manifill.cli.serve import HOW, chosen_token, listen
from manifill.web import connections, security
from manifill.web.security import host_name

pytest_plugins = ["web_fixtures"]
TOKEN = "a-token-for-this-test"


@pytest.fixture(scope="module")
def server(reference_model: Path) -> Iterator[Process]:
    """`manifill serve` that may have few files, and wants a token."""
    pytest.importorskip("resource")
    with serving.process("--model", reference_model, files=200, token=TOKEN) as running:
        yield running


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY every answer takes 44 ms more."""
    for host in ("127.0.0.1", "::1", "localhost"):
        with listen(host, 0) as listening, socket.create_connection(listening.getsockname()[:2]):
            accepted = listening.accept()[0]
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_answers_come_at_once(server: Process) -> None:
    """On a machine at rest: acknowledgements come 44 ms late."""
    address, times = urlsplit(server.url), []
    with httpx.Client(base_url=f"http://{address.netloc}") as client:
        for _ in range(30):
            began = time.perf_counter()
            assert client.get("/health").status_code == 200
            times.append(time.perf_counter() - began)
    assert statistics.quantiles(times, n=4)[0] < 0.03


HALVES = (b"", b"GET /health HTTP/1.1\r\nhost: localh", b"POST /api/v1/inpaint HTTP/1.1\r\n")


def test_more_idle_connections_than_files(server: Process) -> None:
    """Row 28 with 200 files in place of 1,024: others are answered, no core is busy, the log stays short."""
    process, lines = psutil.Process(server.process.pid), len(server.log)
    with ExitStack() as open_connections:
        for k in range(230):
            open_connections.enter_context(connect(server.url, HALVES[k % 3]))
        began, busy = time.monotonic(), sum(process.cpu_times()[:2])
        for _ in range(5):
            assert httpx.get(f"http://{urlsplit(server.url).netloc}/health", timeout=60).status_code == 200
            time.sleep(0.2)
        assert time.monotonic() - began < 30
        assert sum(process.cpu_times()[:2]) - busy < 1
        assert process.num_fds() < 200
    assert len(server.log) - lines < 20, "".join(server.log[lines : lines + 40])


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
def test_bursts_that_find_a_busy_server(server: Process) -> None:
    """It accepts a whole backlog at once, several times before it has counted one: it still does not run out of files.

    A server with 64 in its backlog and room for 108 connections did, and wrote 1,500 lines about it in a second.
    """
    assert HOW["backlog"] == connections.BACKLOG
    process, lines, address = psutil.Process(server.process.pid), len(server.log), urlsplit(server.url)
    with ExitStack() as open_connections:
        for _ in range(14):
            process.suspend()
            for _ in range(64):
                connection = open_connections.enter_context(socket.socket())
                connection.setblocking(False)
                connection.connect_ex((address.hostname, address.port))
            process.resume()
            time.sleep(0.002)
        assert httpx.get(f"http://{address.netloc}/health", timeout=60).status_code == 200
    assert len(server.log) - lines < 20, "".join(server.log[lines : lines + 40])


def test_headers_that_do_not_end(monkeypatch: pytest.MonkeyPatch, inpainter: Inpainter) -> None:
    """Sent byte by byte, on a new connection and after an answer: closed at the deadline, which no byte moves."""
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 1.0)
    with serving.here(inpainter, serving.LIMITS) as web:
        with connect(web.url) as connection:
            assert closed_within(connection, 60, b"a")
        with connect(web.url, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n") as connection:
            assert connection.recv(10000).startswith(b"HTTP/1.1 200")
            assert closed_within(connection, 60, b"a")


def test_a_body_of_a_few_bytes_a_second(monkeypatch: pytest.MonkeyPatch, inpainter: Inpainter) -> None:
    """It never stalls, and is ended all the same; so is one that an answer has not waited for."""
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 1.0)
    monkeypatch.setattr(security, "DRAIN_SECONDS", 0.5)
    with serving.here(inpainter, replace(serving.LIMITS, stall_seconds=0.5)) as web:
        for path, status in (("inpaint", b"408"), ("nothing", b"404")):
            head = f"POST /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            with connect(web.url, f"{head}content-length: 100000\r\n\r\n".encode()) as connection:
                assert closed_within(connection, 60, b" ", b"HTTP/1.1 " + status)


def closed_within(connection: socket.socket, seconds: float, drop: bytes, answer: bytes = b"") -> bool:
    """Send a byte every tenth of a second; say whether the other side closes in time, after this answer."""
    end, found = time.monotonic() + seconds, b""
    connection.settimeout(0.1)
    while time.monotonic() < end:
        try:
            connection.sendall(drop)
            if not (data := connection.recv(10000)):
                return found.startswith(answer)
            found += data
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return found.startswith(answer)
    return False


@pytest.mark.parametrize("host", ["evil@127.0.0.1", "evil:x@localhost", "localhost/evil"])
def test_odd_hosts(server: Process, host: str) -> None:
    assert host_name(host) == ""
    with connect(server.url, f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()) as connection:
        assert connection.recv(10000).startswith(b"HTTP/1.1 403")


def test_two_lengths_of_one_body(server: Process) -> None:
    head = (
        b"POST /api/v1/inpaint HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with connect(server.url, head + b"0\r\n\r\n") as connection:
        assert connection.recv(10000).startswith(b"HTTP/1.1 400")


def test_tokens_cannot_be_tried_quickly(server: Process) -> None:
    """Each wrong one costs a fifth of a second, whichever way it comes; a right one, and none at all, do not wait."""
    address = f"http://{urlsplit(server.url).netloc}"
    began = time.monotonic()
    for k in range(4):
        headers = {"authorization": f"Bearer wrong-{k}"}
        assert httpx.get(f"{address}/api/v1/model", headers=headers).status_code == 401
    httpx.get(f"{address}/?token=wrong")
    assert time.monotonic() - began > 1
    assert httpx.get(f"{address}/api/v1/model", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_token_that_is_not_in_the_list_of_processes(server: Process, tmp_path: Path) -> None:
    assert TOKEN in server.url  # it came from the environment
    assert TOKEN not in " ".join(psutil.Process(server.process.pid).cmdline())
    file = tmp_path / "token"
    file.write_text("another-token-of-a-file\n")
    assert chosen_token("127.0.0.1", None, False, file) == "another-token-of-a-file"
    file.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match="odd characters"):
        chosen_token("127.0.0.1", None, False, file)
    with pytest.raises(ValueError, match="exclude"):
        chosen_token("127.0.0.1", TOKEN, False, file)
    with pytest.raises(OSError, match="nowhere"):
        chosen_token("127.0.0.1", None, False, tmp_path / "nowhere")
