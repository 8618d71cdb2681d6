"""What to ask of a GPU, in one call of a few minutes: `python benchmarks/gpu.py [--device cuda] [--small]`.

Codes against the CPU's, seed by seed, where they differ with how near the tie was; sampling and painting against the
same products alone; a step of each stage against its convolutions alone; the most memory that each took. Then what is
not the default before somebody has seen it gain: rows sampled by CUDA graphs, and steps with `--compile`, which takes
graphs. Time by the clock, the median of several runs. `--small` is quick on a CPU and tells whether this still runs,
no more.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from sampling import given, table
from timing import subject
from torch import Tensor
from training import CONVOLUTIONS, STAGES, STEP, Asked, Recorder, alone, clocked, measured, peak, speeds

from manifill.config import SamplingOptions
from manifill.inpainter import Inpainter
from manifill.networks.precision import exact_float32
from manifill.sampling import cached
from manifill.sampling.cached import Streams, sample_rows
from manifill.sampling.naive import gumbel_noise, noisy_logits
from manifill.train.settings import faster_precision

aten = torch.ops.aten
PRODUCTS = (aten.convolution.default, aten.mm.default, aten.addmm.default, aten.bmm.default)


@dataclass(frozen=True)
class Extent:
    """How much is measured: models, presets (each with batch sizes), seeds to compare, samples at once, runs."""

    models: Sequence[str] = ("faces-128", "scenes-128")
    random: Sequence[str] = ("paper-256",)
    presets: Sequence[tuple[str, Sequence[int]]] = (("faces-128", (8, 32, 64)), ("paper-256", (4, 8, 16)))
    compiled: Sequence[tuple[str, Sequence[int]]] = (("faces-128", (32,)),)
    seeds: int = 32
    samples: Sequence[int] = (1, 8, 64)
    times: int = 5


SMALL = Extent(
    models=("faces-128",), random=("tiny",), presets=(("tiny", (2, 4)),), compiled=(), seeds=2, samples=(1, 2), times=1
)


def inputs(model: Inpainter, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Return the example's image, mask, `cond` and known codes, and the noise of seeds 0 to n - 1."""
    image, mask = (x.to(model.device) for x in given(model, model.image_size // 2))
    cond, known = model.condition(image, mask), model.known(image, mask, "exact")
    wanted = None if known is None else known.lt(0).any(0).flatten().cpu().numpy()
    noise = gumbel_noise(range(n), cond[0, 0].numel(), model.structure.config.codebook_size, wanted)
    return image, mask, cond, known, noise.to(model.device)


def compared(name: str, device: str, seeds: int) -> list[str]:
    """Return a row: how many seeds give the CPU's codes, and the first that does not with its tie in nats."""
    cpu, other = subject(name), subject(name, device=device)
    _, _, cond, known, noise = inputs(cpu, seeds)
    options = cpu.options()
    wanted = cpu.sample(cond, known, noise, options).codes
    _, _, *rest = inputs(other, seeds)
    found = other.sample(*rest, options).codes.cpu()  # type: ignore[arg-type]
    different = (wanted != found).flatten(1)
    same = int((~different.any(1)).sum())
    if same == seeds:
        return [name, f"{same} of {seeds}", "none"]
    k = int(different.any(1).int().argmax())
    position = int(different[k].int().argmax())
    logits = cpu.logits(wanted[k : k + 1], cond)[0].flatten(1).t()[position : position + 1]
    first, second = noisy_logits(logits, noise[k : k + 1, position], options).topk(2).values[0].tolist()
    return [name, f"{same} of {seeds}", f"seed {k}, position {position}: {first - second:.1e}"]


Capture = Callable[[Callable[[], None]], Callable[[], object]]  # what a graph is made of -> what replays it


def cuda_graph(work: Callable[[], None]) -> Callable[[], object]:
    """Capture work, which is not done then, and return what does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@contextmanager
def graphed_rounds(capture: Capture = cuda_graph) -> Iterator[None]:
    """Let rows be sampled as usual but for their rounds: each row's second one is captured, and replayed from then on.

    The first is taken plainly, which warms up what the graph will use.
    """
    plain, row, replay = cached.take_round, None, None

    def take_round(s: Streams, i: int, noise: Tensor, options: SamplingOptions) -> None:
        nonlocal row, replay
        if row != (s, i):
            row, replay = (s, i), None
            plain(s, i, noise, options)
            return
        if replay is None:
            replay = capture(partial(plain, s, i, noise, options))
        replay()

    with mock.patch.object(cached, "take_round", take_round):
        yield


def against_products(work: Callable[[], object], kept: tuple[Any, ...], device: torch.device, times: int) -> list[str]:
    """Return the seconds of some work, of its products alone, their share, kernels, waits, and the most MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    work()
    with Recorder(kept=kept) as recorder:
        work()
    most, floor = peak(device), alone(recorder.calls)
    floor()
    turns = [(clocked(work, device)[0], clocked(floor, device)[0]) for _ in range(times)]
    own, products = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    waits = sum(recorder.waits.values())
    return [
        f"{own:.4f}",
        f"{products:.4f}",
        f"{products / own:.0%}",
        str(recorder.kernels),
        str(waits),
        f"{most / 2**20:.0f}",
    ]


def completing(name: str, device: str, extent: Extent) -> list[list[str]]:
    """Return rows of the condition network, of sampling and of painting, for each number of samples."""
    model = subject(name, device=device)
    here, rows = model.device, []
    codebook, options = model.vqvae.encoder.structure_quantiser.codebook, model.options()
    for n in extent.samples:
        image, mask, cond, known, noise = inputs(model, n)
        sample = partial(sample_rows, model.structure, codebook, cond, noise, options, known)
        codes, features = sample().codes, model.image_features(image, mask)
        painted = partial(model.paint, features, codes, mask)
        if n == extent.samples[0]:
            condition = against_products(partial(model.condition, image, mask), PRODUCTS, here, extent.times)
            rows.append([name, "condition", "1", *condition])
        rows.append([name, "sampling", str(n), *against_products(sample, PRODUCTS, here, extent.times)])
        rows.append([name, "painting", str(n), *against_products(painted, CONVOLUTIONS, here, extent.times)])
    return rows


def by_graphs(name: str, device: str, extent: Extent) -> list[list[str]]:
    """Return rows of sampling as it is and with rounds as CUDA graphs, and how many samples then have the same codes.

    On a CPU, where there are no graphs, rounds are only taken again.
    """
    model, rows = subject(name, device=device), []
    codebook, options = model.vqvae.encoder.structure_quantiser.codebook, model.options()
    capture = cuda_graph if device == "cuda" else lambda work: work
    for n in extent.samples:
        _, _, cond, known, noise = inputs(model, n)
        sample = exact_float32(partial(sample_rows, model.structure, codebook, cond, noise, options, known))
        with graphed_rounds(capture):
            found = sample().codes
        same = int((found == sample().codes).flatten(1).all(1).sum())
        own, graphs = [], []
        for _ in range(extent.times):
            own.append(clocked(sample, model.device)[0])
            with graphed_rounds(capture):
                graphs.append(clocked(sample, model.device)[0])
        rows.append([name, str(n), *(f"{statistics.median(s):.4f}" for s in (own, graphs)), f"{same} of {n}"])
    return rows


def training(device: str, extent: Extent, compiled: bool = False) -> list[list[str]]:
    """Return rows of steps of every stage, preset and batch size; the kernels are those of a step as it is written."""
    rows = []
    for preset, batches in extent.compiled if compiled else extent.presets:
        for stage in STAGES:
            for batch in batches:
                if device == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                precision = faster_precision(torch.device(device))
                found = measured(Asked(preset, stage, batch, precision, None, device, extent.times, compiled))
                rows.append(
                    [f"{preset}, compiled" if compiled else preset, *speeds(stage, found), f"{found.peak / 2**20:.0f}"]
                )
    return rows


def main() -> None:
    """Measure and print, what is known first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks, few runs")
    a = parser.parse_args()
    extent = SMALL if a.small else Extent()
    named = torch.cuda.get_device_name() if a.device == "cuda" else a.device
    print(f"{named}, PyTorch {torch.__version__}\n", flush=True)
    table(
        ["model", "codes as the CPU's", "first other one"], [compared(m, a.device, extent.seeds) for m in extent.models]
    )
    head = ["model", "what", "samples", "s", "its products alone, s", "share", "kernels", "waits", "peak MiB"]
    for model in (*extent.models, *extent.random):
        table(head, completing(model, a.device, extent))
    columns = ["preset", *STEP, "peak MiB"]
    table(columns, training(a.device, extent))
    head = ["model", "samples", "as it is, s", "rounds as graphs, s", "the same codes"]
    for model in (*extent.models, *extent.random):
        table(head, by_graphs(model, a.device, extent))
    if extent.compiled:  # last, as it takes minutes
        table(columns, training(a.device, extent, compiled=True))


if __name__ == "__main__":
    main()
