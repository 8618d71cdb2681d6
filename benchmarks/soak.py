"""A server under attack: honest clients beside one that sends strips, dots, idle connections and half bodies.

    python benchmarks/soak.py --minutes 10

On this machine alone (loopback). Prints the honest clients' times without and with the attack, the server's memory and
how long it took to end; exit code 1 when an answer was lost or mixed up or a bound was passed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from PIL import Image

HONEST, IDLE = 16, 200


def png(pixels: np.ndarray) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pair(shape: tuple[int, int], hole: np.ndarray) -> dict[str, bytes]:
    """Return a photo, a ramp, and its mask as files."""
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1]).astype(np.uint8)[None, :, None], (*shape, 3))
    return {"photo": png(np.ascontiguousarray(ramp)), "mask": png(hole)}


def costly() -> list[dict[str, bytes]]:
    """Return small uploads that would cost much: a strip, and dots."""
    strip, dots = np.zeros((80, 14000), np.bool_), np.zeros((2047, 2048), np.bool_)
    strip[:, 10:], dots[::2, ::2] = True, True
    return [pair(strip.shape, strip), pair(dots.shape, dots)]


def honest(url: str, until: float, wanted: dict[int, bytes]) -> list[float]:
    """Ask for completions of few seeds until the time is over; return the seconds that each took."""
    hole, times = np.zeros((128, 128), np.bool_), []
    hole[32:96, 32:96] = True
    files = pair(hole.shape, hole)
    with httpx.Client(base_url=url, timeout=120) as client:
        while time.monotonic() < until:
            seed, began = len(times) % 4, time.monotonic()
            answer = client.post("/api/v1/inpaint", files=files, data={"seed": str(seed), "num_samples": "1"})
            if answer.status_code == 429:
                time.sleep(0.5)
                continue
            answer.raise_for_status()
            times.append(time.monotonic() - began)
            if np.asarray(Image.open(io.BytesIO(answer.content))).tobytes() != wanted.setdefault(
                seed, np.asarray(Image.open(io.BytesIO(answer.content))).tobytes()
            ):
                raise AssertionError(f"seed {seed} gave two different answers")
    return times


def attack(url: str, stop: threading.Event) -> None:
    """Keep idle connections and half bodies open, and send costly uploads from which the client leaves."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    head = b"POST /api/v1/inpaint HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    half = head + b"content-length: 999999\r\n\r\n"
    held: list[socket.socket] = []
    uploads, turn = costly(), 0
    while not stop.is_set():
        for sent in (b"", b"GET / HT", half):
            with_one = socket.create_connection((host, port), timeout=10)
            with_one.sendall(sent)
            held.append(with_one)
        while len(held) > IDLE:
            held.pop(0).close()
        if turn % 20 == 0:
            with contextlib.suppress(httpx.HTTPError):  # it leaves
                httpx.post(f"{url}/api/v1/inpaint", files=uploads[turn // 20 % 2], data={"num_samples": "1"}, timeout=5)
        turn += 1
        time.sleep(0.1)
    for connection in held:
        connection.close()


def phase(url: str, seconds: float, wanted: dict[int, bytes]) -> float:
    """Return the 95th percentile of the honest clients' times."""
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(HONEST) as pool:
        times = [t for found in pool.map(lambda _: honest(url, until, wanted), range(HONEST)) for t in found]
    percentile = statistics.quantiles(times, n=20)[-1]
    print(
        f"  {len(times)} answers, median {statistics.median(times):.2f} s, 95 % within {percentile:.2f} s", flush=True
    )
    return percentile


def main() -> int:
    """Run the quiet third, then the attack, then end the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default="faces-128")
    options = parser.parse_args()
    command = [sys.executable, "-m", "manifill", "serve", "--port", "0", "--model", options.model, "--memory", "1024"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().removeprefix("manifill: ").strip().rstrip("/")
    process, stop, peak = psutil.Process(server.pid), threading.Event(), [0]
    alone = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], process.memory_info().rss)

    failures: list[str] = []

    def bound(said: str, held: Callable[[], bool]) -> None:
        print(f"  {said}{'' if held() else ': TOO MUCH'}", flush=True)
        if not held():
            failures.append(said)

    try:
        wanted: dict[int, bytes] = {}
        threading.Thread(target=watch, daemon=True).start()
        print("quiet", flush=True)
        quiet = phase(url, options.minutes * 20, wanted)
        print(f"  {peak[0] - alone >> 20} MiB more than the model")
        print("under attack", flush=True)
        attacker = threading.Thread(target=attack, args=(url, stop), daemon=True)
        attacker.start()
        attacked = phase(url, options.minutes * 40, wanted)
        stop.set()
        bound(f"{attacked / quiet:.1f} times the quiet time; at most 3", lambda: attacked <= 3 * quiet)
        grown = (peak[0] - alone) >> 20
        bound(f"{grown} MiB more than the model; at most 1024", lambda: grown <= 1024)
    finally:
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        ended = time.monotonic() - began
    bound(f"ended {ended:.1f} s after SIGTERM; at most 5", lambda: ended <= 5)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
