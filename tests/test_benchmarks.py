"""The benchmarks of training run, and what they count is what is computed."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import training  # noqa: E402

from manifill.train.presets import preset  # noqa: E402


def convolve(x: torch.Tensor, weight: torch.Tensor) -> None:
    F.conv2d(x, weight, padding=1).sum().backward()


def test_every_convolution_is_recorded_forward_and_backward():
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    with training.Recorder() as recorder:
        convolve(x, weight)
    assert [call[0] for call in recorder.calls] == list(training.CONVOLUTIONS)
    once = 2 * (2 * 8 * 8) * 4 * 3 * 9
    assert recorder.operations["convolutions"] == 3 * once  # the output, the input's gradient and the weight's


def test_replayed_convolutions_are_the_recorded_ones():
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    with training.Recorder() as first:
        convolve(x, torch.randn(4, 3, 3, 3, requires_grad=True))
    with training.Recorder() as second:
        training.alone(first.calls)()
    assert second.calls == first.calls
    assert second.operations == first.operations
    assert training.strided(first.calls) == 0


def test_plain_layouts_are_counted():
    with training.Recorder() as recorder:
        convolve(torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True))
    assert training.strided(recorder.calls) == 2


@pytest.mark.parametrize("name", training.STAGES)
def test_a_step_waits_for_nothing(name: str):
    """No number of the device is looked at in a step, so that on a GPU the next step is prepared meanwhile."""
    settings, device = preset("tiny"), torch.device("cpu")
    stage = training.built(name, settings, device, torch.float32, False)
    own = training.given(settings.model.image_size, 4, tuple(stage.masks), device)
    for _ in range(2):
        stage.step(own)
    with training.Recorder(training.kept_by_processor(stage)) as recorder:
        stage.step(own)
    assert recorder.waits == {}
    assert recorder.kernels > 100


def test_a_wait_is_seen():
    x, host = torch.arange(3.0), torch.zeros(1)
    with training.Recorder([host]) as recorder:
        assert not host.item()
        assert x.sum() > 0 and float(x[x > 1].sum()) == 2  # noqa: PT018
    assert recorder.waits == {"_local_scalar_dense": 2, "index": 1}


@pytest.mark.parametrize("stage", training.STAGES)
def test_a_stage_is_measured(stage: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "matrix_rate", functools.partial(training.matrix_rate, side=64))
    threads = torch.get_num_threads()
    try:
        asked = training.Asked("tiny", stage, None, "fp32", 1, "cpu", 1, False, True)
        found = training.measured(asked)
    finally:
        torch.set_num_threads(threads)
    assert len(training.speeds(stage, found)) == len(training.STEP)
    assert found.operations > 1e6
    assert found.saving > 0
    assert found.validating > 0
    assert training.needs(stage, found, True)[:2] == [stage, "4"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", training.STAGES)
def test_a_stage_is_measured_in_a_process_of_its_own(stage: str):
    command = [
        sys.executable,
        "benchmarks/training.py",
        "--preset",
        "tiny",
        "--stage",
        stage,
        "--times",
        "1",
        "--threads",
        "1",
        "--around",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(f"| {stage} ")]
    assert len(rows) == 2


@pytest.mark.slow
def test_what_is_asked_of_a_gpu_runs_on_a_cpu():
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "| faces-128 | 2 of 2 | none |" in done.stdout
    assert done.stdout.splitlines()[-2].endswith("| 2 of 2 |")  # rounds taken again change nothing
    for what in ("condition", "sampling", "painting", *training.STAGES):
        assert f" {what} |" in done.stdout


def test_reading_is_measured():
    command = [sys.executable, "benchmarks/data.py", "examples/astronaut.png", "--size", "64", "--batch", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "pictures/s of a core" in done.stdout


def test_redraws_of_a_perfect_generator_look_like_its_faults(tmp_path: Path):
    """Completions that are as the truth in all but what is drawn: no nearer to each other than to the true codes."""
    rng = np.random.default_rng(0)
    pictures, blur = rng.normal(size=(60, 1, 8)), rng.normal(size=8) / 8
    drawn = pictures + rng.normal(size=(60, 4, 8)) / 2
    photos, completions = drawn[:, 0], drawn[:, 1:] + blur
    np.savez(tmp_path / "drawn.npz", value_features_F=completions, value_real_F=photos)
    np.savez(tmp_path / "true.npz", value_features_F=photos[:, None] + blur, value_real_F=photos)
    command = [
        sys.executable,
        "benchmarks/redraws.py",
        tmp_path / "drawn.npz",
        tmp_path / "true.npz",
        "--features",
        "F",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "60 pictures, 3 completions each" in done.stdout
    said = (line.split(": ")[1] for line in done.stdout.splitlines()[1:])
    true, wrong, away, between, ratio = (float(words.split(" ")[0]) for words in said)
    assert true == pytest.approx((blur**2).sum(), rel=1e-3)
    assert wrong > 1.5 * true
    assert away == pytest.approx(between, rel=0.3)
    assert ratio == pytest.approx(wrong / true, rel=1e-2)
