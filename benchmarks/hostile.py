"""Rows 21 to 28 of the cases: small inputs that cost much, strangers' models, damaged and odd files, idle connections.

What a row does as it lies is done here; what needs a training or a server with its clients, the tests do.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from PIL import Image
from place import Done, Place, case, changed, expect, refused

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "tests" / "reference" / "model"


def tested(*names: str) -> str:
    """Run tests, slow ones too."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", *(ROOT / "tests" / n for n in names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    expect(done.returncode == 0, last)
    return f"tests: {last}"


def soon(place: Place, photo: str, mask: str) -> str:
    """Complete a photo or have it refused, in seconds and in memory that is in proportion to it."""
    with Image.open(place.cases / photo) as picture:
        own = np.asarray(picture)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = place.run(photo, mask)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    expect(processor < 60, f"{processor:.0f} s of processor time")
    expect(after.ru_maxrss < 3 << 20, f"{after.ru_maxrss >> 10} MiB")  # of all commands so far
    if done.code == 2:
        return f"{refused(done)} ({seconds:.1f} s)"
    different = changed(done, own, Path(photo).stem)
    expect(not different[~place.hole(mask)].any(), "known pixels changed")
    most = f"no command above {after.ru_maxrss >> 10} MiB"
    return f"completed in {seconds:.1f} s, {processor:.1f} s of processor time; {most}"


@case(21)
def _(place: Place) -> str:
    alone = soon(place, "photo_plain.png", "mask_dots.png")
    return f"{alone}; by the API {tested('web/test_costly_uploads.py')}"


@case(22)
def _(place: Place) -> str:
    return soon(place, "photo_strip.png", "mask_strip.png")


@case(23)
def _(place: Place) -> str:
    models = place.work / "models"
    subprocess.run([sys.executable, place.cases / "make_models.py", REFERENCE, models], check=True)
    folders, slowest = sorted(models.iterdir()), 0.0
    for folder in folders:
        began = time.monotonic()
        sentence = refused(Place(place.cases, place.work / "refused", model=str(folder)).run("photo.png", "mask.png"))
        command = [sys.executable, "-m", "manifill", "info", folder]
        info = subprocess.run(command, capture_output=True, text=True, check=False)
        slowest = max(slowest, (time.monotonic() - began) / 2)
        expect(info.returncode == 2 and info.stderr.strip() == sentence, f"{folder.name}: info says {info.stderr}")
        expect(str(folder) in sentence and ".safetensors" in sentence, f"no file is named: {sentence}")
    return f"{len(folders)} folders refused by both verbs, {slowest:.1f} s at most"


@case(24)
def _(place: Place) -> str:
    out = place.work / "odd"
    out.mkdir()
    (out / "manifest.jsonl").write_bytes((place.cases / "manifest_odd.jsonl").read_bytes())
    done = place.run("photo.png", "mask.png", out=out)
    expect(done.code == 0, done.said)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    expect("photo_000.png" in [line["file"] for line in lines if isinstance(line, dict)], f"{lines}")
    runs = "train/test_damaged_runs.py"
    names = ("test_odd_lines_in_the_metrics", "test_odd_settings", "test_foreign_checkpoints")
    return f"completed, {len(lines)} lines; {tested(*(f'{runs}::{name}' for name in names))}"


@case(25)
def _(place: Place) -> str:
    out, other = place.work / "linked", place.work / "other"
    out.mkdir()
    other.write_bytes(b"as before")
    (out / "photo_000.png.part").symlink_to(other)
    done: Done = place.run("photo.png", "mask.png", out=out)
    expect(done.code == 0 and other.read_bytes() == b"as before", f"{done.said} {other.read_bytes()[:20]!r}")
    expect(not (out / "photo_000.png").is_symlink(), "the result is a link")
    return "the other file is as before"


@case(26)
def _(place: Place) -> str:
    return tested("train/test_damaged_runs.py::test_flipped_bits_in_a_checkpoint")


@case(27)
def _(place: Place) -> str:
    return tested("train/test_damaged_runs.py::test_the_same_training_leaves_the_same_files")


@case(28)
def _(place: Place) -> str:
    files, wanted = 1024, 1100
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    command = ["prlimit", f"--nofile={files}", sys.executable, "-m", "manifill", "serve", "--port", "0"]
    log = place.work / "log"
    with log.open("w") as said, ExitStack() as stack:
        server = subprocess.Popen([*command, "--model", place.model], stdout=subprocess.PIPE, stderr=said, text=True)
        stack.callback(server.wait, 30)
        stack.callback(server.terminate)
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("manifill: ").strip()
        address, process = urlsplit(url), psutil.Process(server.pid)
        for _ in range(wanted):
            stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=30))
        began, busy = time.monotonic(), sum(process.cpu_times()[:2])
        for _ in range(10):
            expect(httpx.get(f"{url}health", timeout=20).status_code == 200, "no answer")
            time.sleep(0.2)
        seconds, busy = time.monotonic() - began, sum(process.cpu_times()[:2]) - busy
        expect(seconds < 20 and busy < seconds / 2, f"{seconds:.1f} s, of which {busy:.1f} of a core")
        expect(log.stat().st_size < 20_000, f"{log.stat().st_size} bytes of log")
        return (
            f"{wanted} idle: 10 answers in {seconds:.1f} s, {busy:.2f} s of a core, {log.stat().st_size} bytes of log"
        )
