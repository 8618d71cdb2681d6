"""A run that is killed, interrupted or out of disk space loses at most the steps since its last checkpoint."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from manifill import cli
from manifill.data.sources import DataError
from manifill.networks.atomic import WriteError, write_atomic
from manifill.networks.checkpoint import NETWORKS, read_header
from manifill.train import loop, resume
from manifill.train.config import RunOptions
from manifill.train.run import held, train

STAGES = ("vqvae", "structure", "texture")
OPTIONS = RunOptions(quiet=True, force=True, log_every=2, validate_every=6, checkpoint_every=3)
FULL = Path("/dev/full")  # every write to it finds the disk full
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


SHORT = ("--steps", "12")


def command(pictures: Path, out: Path, steps: tuple[str, ...] = SHORT) -> list[str]:
    return [
        *(sys.executable, "-u", "-m", "manifill", "train", "all", "--preset", "tiny", "--force", "--quiet"),
        *("--data", str(pictures), "--out", str(out), "--accumulate", "2", *steps),
        *("--log-every", "2", "--validate-every", "6", "--checkpoint-every", "3"),
    ]


def verb(words: list[str]) -> list[str]:
    """Return what a command says to the program."""
    return words[words.index("manifill") + 1 :]


def started(words: list[str]) -> subprocess.Popen:
    """Start a run and wait until it has read its pictures."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert "pictures to train on" in process.stdout.readline()
    return process


def test_two_runs_do_not_share_a_folder(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = started(command(pictures, tmp_path, ("--steps", "100000")))
    try:
        until = time.monotonic() + 300
        while not (tmp_path / "vqvae" / "checkpoint.pt").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)  # it holds the folder, and leaves the processor to the second
        before = (tmp_path / "vqvae" / "config.json").read_bytes()
        assert cli.main(verb(command(pictures, tmp_path))) == 2
        said = capsys.readouterr().err
        assert "another process is training here" in said
        assert str(tmp_path / "vqvae") in said
        assert (tmp_path / "vqvae" / "config.json").read_bytes() == before
    finally:
        first.kill()
        first.communicate()
    reached = json.loads((tmp_path / "vqvae" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    steps = ("--steps", str(reached + 3))
    with held(tmp_path / "vqvae"):  # whoever was killed has let go
        pass
    words = verb(command(pictures, tmp_path, steps))
    words[words.index("all")] = "vqvae"
    assert cli.main(words) == 0


def logs(out: Path) -> dict[str, list[dict]]:
    """Every stage's metrics, without what the clock says."""
    found = {s: [json.loads(line) for line in (out / s / "metrics.jsonl").read_text().splitlines()] for s in STAGES}
    return {s: [{k: v for k, v in line.items() if k != "pictures_per_s"} for line in f] for s, f in found.items()}


def compare(out: Path, whole: Path) -> None:
    """Two runs left the same model and the same metrics, and nothing half written."""
    for name in NETWORKS:
        ours, wanted = (load_file(o / "model" / f"{name}.safetensors") for o in (out, whole))
        assert [k for k in wanted if not torch.equal(ours[k], wanted[k])] == []
    assert logs(out) == logs(whole)
    assert (out / "model" / "README.md").exists()
    assert not list(out.rglob("*.part"))


def check_whole(out: Path, before: dict[str, int]) -> dict[str, int]:
    """All files with a final name can be read, and no checkpoint went back; return the steps of the checkpoints."""
    steps = {}
    for path in out.rglob("checkpoint.pt"):
        steps[path.parent.name] = torch.load(path, weights_only=True)["step"]
        assert steps[path.parent.name] >= before.get(path.parent.name, 0)
    assert before.keys() <= steps.keys()
    for path in out.rglob("*.safetensors"):
        read_header(path.parent, path.stem)
        load_file(path)
    for path in out.rglob("*.png"):
        Image.open(path).load()
    for path in out.rglob("config.json"):
        json.loads(path.read_text())
    return steps


def uninterrupted(words: list[str]) -> float:
    """Run to the end; return the seconds since its first word."""
    process = started(words)
    since = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - since


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A short run of all stages, and the seconds it took."""
    out, since = tmp_path_factory.mktemp("whole"), time.monotonic()
    assert cli.main(verb(command(pictures, out))) == 0
    return out, time.monotonic() - since


def test_killed_at_random_moments(whole: tuple[Path, float], pictures: Path, tmp_path: Path) -> None:
    kill(command(pictures, tmp_path / "run"), tmp_path / "run", *whole, kills=3)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(pictures: Path, tmp_path: Path) -> None:
    seconds = uninterrupted(command(pictures, tmp_path / "whole", ()))
    kill(command(pictures, tmp_path / "run", ()), tmp_path / "run", tmp_path / "whole", seconds, kills=20)


def kill(words: list[str], out: Path, finished: Path, seconds: float, kills: int) -> None:
    """Kill a run so often, at moments spread over the time of a whole one; it goes on from its last checkpoint."""
    rng, steps, done = random.Random(kills), {}, 0
    while done < kills:
        process = started(words)
        time.sleep(rng.uniform(0, 2 * seconds / kills))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it had come to its end
            compare(out, finished)
            shutil.rmtree(out)
            steps, seconds = {}, seconds / 2  # this machine has become faster
            continue
        done += 1
        steps = check_whole(out, steps)
    assert cli.main(verb(words)) == 0
    compare(out, finished)


def test_an_interrupted_run_goes_on_the_same(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision the scale of the gradients is part of what goes on."""
    options = RunOptions(
        quiet=True, force=True, validate_every=2, checkpoint_every=1, steps=2, precision="fp16", accumulate=2
    )
    train(STAGES, [pictures], tmp_path / "whole", "tiny", options)
    save, written = resume.save_checkpoint, []

    def interrupted(*given) -> None:
        save(*given)
        written.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(resume, "save_checkpoint", interrupted)
    for _ in range(6):  # three stages of two checkpoints
        with pytest.raises(KeyboardInterrupt):
            train(STAGES, [pictures], tmp_path / "run", "tiny", options)
    monkeypatch.undo()
    train(STAGES, [pictures], tmp_path / "run", "tiny", options)
    assert [step for _, _, step, _ in written] == [1, 2] * 3
    compare(tmp_path / "run", tmp_path / "whole")


def test_a_full_disk(whole: tuple[Path, float], pictures: Path, tmp_path: Path) -> None:
    """A file system of 7 MB, too small for the second checkpoint of the structure stage, is enlarged afterwards."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("may not mount a file system here")
    run = " ".join(command(pictures, disk / "run"))
    script = f"""
        mount -t tmpfs -o size=7m none {disk} || exit 77
        {run} 2> {tmp_path}/stderr; code=$?
        cp -r {disk}/run {tmp_path}/full && mount -o remount,size=64m {disk} && {run} && cp -r {disk}/run {out}
        exit $code
    """
    code = subprocess.run(["unshare", "-rm", "sh", "-c", script], check=False, capture_output=True).returncode
    if code == 77:
        pytest.skip("may not mount a file system here")
    sentence = (tmp_path / "stderr").read_text().strip().splitlines()[-1]
    assert sentence == (
        f"manifill: {disk}/run/structure/checkpoint.pt: could not be written (No space left on device); "
        "what was there before is kept"
    )
    assert code == 2
    assert check_whole(tmp_path / "full", {})["structure"] == 3
    assert not list((tmp_path / "full").rglob("*.part"))
    compare(out, whole[0])


@pytest.mark.parametrize("size", [1000, 10**6])
def test_a_failed_write_keeps_what_was_there(tmp_path: Path, size: int) -> None:
    path = tmp_path / "checkpoint.pt"
    write_atomic(path, partial(torch.save, {"a": 1}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(WriteError, match=rf"{path}: could not be written \(File too large\); what was there"):
            write_atomic(path, partial(torch.save, {"a": torch.zeros(size)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@needs_full
def test_metrics_on_a_full_disk() -> None:
    with pytest.raises(WriteError, match=r"/dev/full: could not be written \(No space left on device\)"):
        loop._append(FULL, {"step": 1})


def test_other_errors_and_interruptions_are_not_hidden(tmp_path: Path) -> None:
    def write(error: BaseException) -> None:
        raise error

    for error in (KeyboardInterrupt(), RuntimeError("no"), ValueError("no")):
        with pytest.raises(type(error)):
            write_atomic(tmp_path / "x", lambda f, error=error: write(error))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_removed(pictures: Path, tmp_path: Path) -> None:
    options = RunOptions(**{**vars(OPTIONS), "steps": 3})
    train(("vqvae",), [pictures], tmp_path, "tiny", options)
    for name in ("vqvae/checkpoint.pt.part", "model/vqvae.safetensors.part"):
        (tmp_path / name).write_bytes(b"half")
    with (tmp_path / "vqvae" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')
    train(("vqvae",), [pictures], tmp_path, "tiny", options)
    assert not list(tmp_path.rglob("*.part"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "vqvae" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 3]  # the log and the validation


def test_a_damaged_checkpoint_is_named(pictures: Path, tmp_path: Path) -> None:
    options = RunOptions(**{**vars(OPTIONS), "steps": 3})
    train(("vqvae",), [pictures], tmp_path, "tiny", options)
    path = tmp_path / "vqvae" / "checkpoint.pt"
    for data in (path.read_bytes()[:5000], b"", np.random.default_rng(0).bytes(5000)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"checkpoint\.pt: not a readable checkpoint; remove it"):
            train(("vqvae",), [pictures], tmp_path, "tiny", options)


def test_nothing_broken_is_saved(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is not finite ends the run before a checkpoint, also between two lines of the log."""
    options = RunOptions(**{**vars(OPTIONS), "steps": 12, "log_every": 12})
    fetch = loop.own_share

    def broken(batches, kinds, device, step):
        own = fetch(batches, kinds, device, step)
        if step == 4:
            own.image.fill_(float("nan"))
        return own

    monkeypatch.setattr(loop, "own_share", broken)
    with pytest.raises(FloatingPointError, match="not finite at step 6; the last checkpoint is kept"):
        train(("vqvae",), [pictures], tmp_path, "tiny", options)
    assert check_whole(tmp_path, {}) == {"vqvae": 3}
