"""Steps of training, each against its own convolutions alone, and what a run needs besides: memory, bytes, pauses.

    python benchmarks/training.py [--preset paper-256 --batch 2] [--stage vqvae structure texture] [--around]

Real stages take real steps on the example picture, with random weights. The convolutions that a step makes, forward and
backward, those of frozen networks too, are recorded as PyTorch is asked for them and made again on random numbers of
the same shapes, types and layouts; step and replay take turns. Quote the share: it is that of the processor time, which
other jobs disturb little, and, by the clock, of the medians. Each stage has a process of its own, so that its memory is
its own. Set OMP_NUM_THREADS or --threads where the machine is shared.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from sampling import table
from timing import fastest, photo
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from manifill.data import masks
from manifill.data.pictures import Pictures
from manifill.memory import keep_freed_memory
from manifill.networks.vqvae import VQVAE
from manifill.photos.tensors import to_tensor
from manifill.train.config import Preset
from manifill.train.distributed import Processes, Share
from manifill.train.loop import Setup, Stage
from manifill.train.presets import preset as preset_named
from manifill.train.settings import PRECISIONS, faster_precision
from manifill.train.structure import StructureStage
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage

STAGES = ("vqvae", "structure", "texture")
EXAMPLE = Path(__file__).parent.parent / "examples" / "astronaut.png"
SEEN = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "repeat_interleave", "bincount"}
SILENT = {"detach", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view"}
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)

STEP = [
    "stage",
    "batch",
    "s of a processor a step (by the clock)",
    "pictures/s",
    "GFLOP a step: convolutions + products",
    "GFLOP/s",
    "its convolutions alone, s",
    "GFLOP/s",
    "share (by the clock)",
    "of a matrix product's GFLOP/s",
    "not channels_last",
    "kernels a step",
    "waits",
]


@dataclass(frozen=True)
class Asked:
    """What to measure; `batch` None is the preset's own."""

    preset: str = "faces-128"
    stage: str = "vqvae"
    batch: int | None = None
    precision: str = "bf16"
    threads: int | None = None
    device: str = "cpu"
    times: int = 5
    compiled: bool = False
    around: bool = False


@dataclass
class Found:
    """Seconds of steps and of their convolutions alone, (by the clock, of the processor) each time; and the rest."""

    batch: int = 0
    steps: list[tuple[float, float]] = field(default_factory=list)
    alone: list[tuple[float, float]] = field(default_factory=list)
    matrix_rate: float = 0.0  # operations a second of a product of two matrices
    operations: int = 0  # of the convolutions, two for a multiplication and addition
    other_operations: int = 0  # of matrix products and attention
    kernels: int = 0
    waits: Counter[str] = field(default_factory=Counter)  # calls that make the processor wait for a GPU
    strided: int = 0  # convolutions of several columns whose input is not channels_last
    before: int = 0  # bytes
    peak: int = 0
    parameters: int = 0
    gradients: int = 0  # bytes that processes exchange in a step
    checkpoint: int = 0  # bytes
    saving: float = 0.0  # seconds, into memory
    validating: float = 0.0  # seconds a picture


class Recorder(TorchDispatchMode):
    """Counts what is computed within it and keeps the arguments' shapes of all convolutions, or of what is `kept`.

    `kernels` are calls that make new numbers, each a kernel on a GPU, about. `waits` are calls whose result a processor
    has to see before it goes on, by name; those on numbers of `host`, which stay with the processor, and on what is
    computed of them alone, are none.
    """

    def __init__(self, host: Sequence[Tensor] = (), kept: tuple[Any, ...] = CONVOLUTIONS) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple]] = []
        self.operations: Counter[str] = Counter()
        self.kernels, self.waits = 0, Counter[str]()
        self.host, self.kept = {x.data_ptr(): x for x in host}, kept  # holds them, so that no other gets their place

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = func._opname in SEEN or (
            func._opname == "index" and any(i.dtype == torch.bool for i in args[1] if i is not None)
        )
        inputs = [x for x in args if isinstance(x, Tensor)]
        at_home = bool(inputs) and all(x.data_ptr() in self.host for x in inputs)
        if at_home and isinstance(out, Tensor):
            self.host[out.data_ptr()] = out
        self.kernels += not (func.is_view or at_home or func._opname in SILENT)
        if seen and not at_home:
            self.waits[func._opname] += 1
        if func in self.kept:
            self.calls.append((func, tuple(described(a) for a in args)))
        if func._overloadpacket in flop_registry:
            count = flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
            self.operations["convolutions" if func in CONVOLUTIONS else "others"] += count
        return out


@dataclass(frozen=True)
class Described:
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def random(self) -> Tensor:
        """Return random numbers in this form; a number may stand in several places."""
        held = 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        numbers = torch.empty(held, dtype=self.dtype, device=self.device).normal_()
        return numbers.as_strided(self.shape, self.strides)


def described(a: Any) -> Any:
    """Return a tensor as Described, a list as a tuple, anything else as it is: something that can be a key."""
    if isinstance(a, Tensor):
        return Described(tuple(a.shape), a.stride(), a.dtype, a.device)
    return tuple(a) if isinstance(a, list) else a


def alone(calls: list[tuple[Any, tuple]]) -> Callable[[], None]:
    """Return what makes these calls in their order, on random numbers; calls of one form share them."""
    made = {call: [a.random() if isinstance(a, Described) else a for a in call[1]] for call in set(calls)}

    @torch.no_grad()
    def work() -> None:
        for call in calls:
            call[0](*made[call])

    return work


def strided(calls: list[tuple[Any, tuple]]) -> int:
    """Return how many calls get an input of several rows, columns and channels that is not channels_last."""
    inputs = [a[1] if f is CONVOLUTIONS[1] else a[0] for f, a in calls]
    return sum(min(x.shape[1:]) > 1 and x.strides[1] != 1 for x in inputs)


def built(name: str, settings: Preset, device: torch.device, precision: torch.dtype, compiled: bool) -> Stage:
    """Return a stage with random weights."""
    torch.manual_seed(0)
    val, processes = Pictures([EXAMPLE], settings.model.image_size, quiet=True), Processes(None, 1, compiled)
    setup = Setup(settings, val, device, precision, processes)
    if name == "vqvae":
        return VQVAEStage(setup)
    vqvae = VQVAE(settings.model.vqvae).eval().requires_grad_(False)
    return (StructureStage if name == "structure" else TextureStage)(setup, vqvae)


def given(size: int, batch: int, kinds: tuple[str, ...], device: torch.device) -> Share:
    """Return a batch as the loop hands it to a stage: the example, moved a little in each row, and masks."""
    image = to_tensor(np.stack([np.roll(photo(size), 8 * k, axis=1) for k in range(batch)]))
    mask = masks.draw(kinds, batch, size, np.random.default_rng(0)) if kinds else image[:, :0]
    return Share(image, mask, 0, batch).to(device)


def clocked(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the seconds of a run by the clock and of the processor; on a GPU, which has none, both by the clock."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wait()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return wall, (wall if device.type == "cuda" else processor)


def measured(asked: Asked) -> Found:
    """Build a stage and measure it; to be called in a process of its own."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    keep_freed_memory(large=True)  # as `manifill train` does
    settings, device, precision = preset_named(asked.preset), torch.device(asked.device), PRECISIONS[asked.precision]
    batch = asked.batch or getattr(settings, asked.stage).batch_size
    found = Found(batch, before=psutil.Process().memory_info().rss)
    stage = built(asked.stage, settings, device, precision, asked.compiled)
    own = given(settings.model.image_size, batch, tuple(stage.masks), device)

    def step() -> None:
        stage.step(own)

    for _ in range(2):  # the first makes the optimiser's averages
        step()
    found.peak = peak(device)
    calls = count(stage, step, found) if not asked.compiled else count(*uncompiled(asked, settings, own), found)
    compare(step, alone(calls), device, asked.times, found)
    found.matrix_rate = matrix_rate(device, precision)
    weigh(stage, found)
    if asked.around:
        around(stage, settings, found)
    return found


def uncompiled(asked: Asked, settings: Preset, own: Share) -> tuple[Stage, Callable[[], object]]:
    """Return the same stage without torch.compile, whose calls can be recorded, and a step of it."""
    stage = built(asked.stage, settings, torch.device(asked.device), PRECISIONS[asked.precision], False)
    stage.step(own)
    return stage, lambda: stage.step(own)


def kept_by_processor(stage: Stage) -> list[Tensor]:
    """Return the counts of steps, which stay with the processor where the networks are on a GPU."""
    steps = [state["step"] for optimiser, _ in stage.rates for state in optimiser.state.values()]
    counts = [
        getattr(part, name) for part in stage.state.values() for name in ("n_averaged", "steps") if hasattr(part, name)
    ]
    return [*steps, *counts]


def count(stage: Stage, step: Callable[[], object], found: Found) -> list[tuple[Any, tuple]]:
    """Take a step and return its convolutions; its operations go into `found`."""
    groups = [group for optimiser, _ in stage.rates for group in optimiser.param_groups]
    for group in groups:
        group["foreach"] = True  # many tensors a call, as it is on a GPU without being asked
    with Recorder(kept_by_processor(stage)) as recorder:
        step()
    for group in groups:
        group["foreach"] = None
    found.operations, found.other_operations = recorder.operations["convolutions"], recorder.operations["others"]
    found.strided = strided(recorder.calls)
    found.kernels, found.waits = recorder.kernels, recorder.waits
    return recorder.calls


def compare(
    step: Callable[[], object], replay: Callable[[], object], device: torch.device, times: int, found: Found
) -> None:
    """Time steps and their convolutions in turn."""
    replay()
    for _ in range(times):
        found.steps.append(clocked(step, device))
        found.alone.append(clocked(replay, device))


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Return operations a second of a product of two square matrices, by the fastest of several runs."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2 * side**3 / min(clocked(lambda: a @ b, device)[1] for _ in range(7))


def peak(device: torch.device) -> int:
    """Return the most bytes held so far: by this process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def weigh(stage: Stage, found: Found) -> None:
    """Count what is trained and what is saved."""
    trained = [p for optimiser, _ in stage.rates for group in optimiser.param_groups for p in group["params"]]
    found.parameters = sum(p.numel() for p in trained)
    found.gradients = sum(p.numel() * p.element_size() for p in trained)


def around(stage: Stage, settings: Preset, found: Found, pictures: int = 20) -> None:
    """Time what stops the steps: a checkpoint, written into memory, and validation."""
    file = io.BytesIO()
    began = time.perf_counter()
    torch.save({name: part.state_dict() for name, part in stage.state.items()}, file)
    found.saving, found.checkpoint = time.perf_counter() - began, file.tell()
    cast(Any, stage).val = Pictures([EXAMPLE] * pictures, settings.model.image_size, quiet=True)
    found.validating = fastest(stage.validate, 1) / pictures


def ratio(found: Found, clock: int) -> float:
    """Return the median over turns of (convolutions alone / step)."""
    return statistics.median(a[clock] / s[clock] for s, a in zip(found.steps, found.alone, strict=True))


def speeds(stage: str, found: Found) -> list[str]:
    """Return the row of the first table."""
    step, own = (statistics.median(s[1] for s in seconds) for seconds in (found.steps, found.alone))
    wall = statistics.median(s[0] for s in found.steps)
    both = (found.operations + found.other_operations) / step
    return [
        stage,
        str(found.batch),
        f"{step:.3f} ({wall:.3f})",
        f"{found.batch / step:.2f}",
        f"{found.operations / 1e9:.0f} + {found.other_operations / 1e9:.0f}",
        f"{both / 1e9:.0f}",
        f"{own:.3f}",
        f"{found.operations / own / 1e9:.0f}",
        f"{ratio(found, 1):.0%} ({ratio(found, 0):.0%})",
        f"{both / found.matrix_rate:.0%} of {found.matrix_rate / 1e9:.0f}",
        str(found.strided),
        str(found.kernels),
        ", ".join(f"{n} {name}" for name, n in found.waits.items()) or "none",
    ]


def needs(stage: str, found: Found, around: bool) -> list[str]:
    """Return the row of the second table."""
    row = [
        stage,
        str(found.batch),
        f"{found.peak / 2**20:.0f}",
        f"{found.before / 2**20:.0f}",
        f"{found.parameters / 1e6:.2f}",
        f"{found.gradients / 2**20:.1f}",
        f"{(found.operations + found.other_operations) / found.batch / 1e9:.0f}",
    ]
    extra = [f"{found.checkpoint / 2**20:.0f}", f"{found.saving:.2f}", f"{found.validating:.3f}"]
    return row + (extra if around else [])


def report(asked: list[Asked]) -> None:
    """Measure each in a process of its own and print the tables."""
    found = []
    for one in asked:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(measured, one).result())
    table(
        STEP,
        [speeds(a.stage, f) for a, f in zip(asked, found, strict=True)],
    )
    table(
        [
            "stage",
            "batch",
            "peak MiB",
            "of it before building",
            "million parameters",
            "MiB of gradients",
            "GFLOP a picture",
            *(["checkpoint, MiB", "s to save it", "s to validate a picture"] * asked[0].around),
        ],
        [needs(a.stage, f, a.around) for a, f in zip(asked, found, strict=True)],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="faces-128")
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES)
    parser.add_argument("--batch", type=int, nargs="+", default=[None], help="in place of the preset's; may be several")
    parser.add_argument("--precision", choices=list(PRECISIONS), help="what is faster there, unless given")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--times", type=int, default=5, help="how often step and convolutions take turns")
    parser.add_argument("--compile", action="store_true", help="with torch.compile, as `manifill train --compile`")
    parser.add_argument("--around", action="store_true", help="also time checkpoints and validation")
    a = parser.parse_args()
    threads = a.threads or torch.get_num_threads()
    precision = a.precision or faster_precision(torch.device(a.device))
    print(f"{a.preset}, random weights, {precision}, {a.device}, {threads} threads, PyTorch {torch.__version__}\n")
    asked = Asked(a.preset, "", None, precision, threads, a.device, a.times, a.compile, a.around)
    report([replace(asked, stage=stage, batch=batch) for stage in a.stage for batch in a.batch])


if __name__ == "__main__":
    main()
