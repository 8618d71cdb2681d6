"""Drawing structures: how long, against full passes of the PixelCNN and against what no sampler can avoid.

    python benchmarks/sampling.py [--model paper-256] [--samples 1 8 32] [--dtype bfloat16] [--slow] [--plot FILE.png]

`paper-256` has random weights. In one run it measures a full pass of the PixelCNN in PyTorch and float32; the chain of
matrix products that steps cannot avoid; all products (the rows', the condition's projections and the chain);
and sampling, by itself and with its condition network. Then the hole's size against time for each kind of clamping, and
how often the paths disagree. Quote the ratios; absolute times depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timing import fastest, photo, square, subject
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.inpainter import Inpainter
from manifill.photos.photo import load_photo
from manifill.photos.tensors import to_model
from manifill.sampling.cached import sample_cached, sample_rows
from manifill.sampling.naive import Sampled, gumbel_noise, noisy_logits, sample_naive
from manifill.sampling.native import NativeSampler


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def condition(model: Inpainter) -> tuple[Tensor, Tensor, Tensor]:
    """Return the example as image and mask with a centre hole, and its `cond`."""
    image, mask = given(model, model.image_size // 2)
    return image, mask, model.condition(image, mask)


def given(model: Inpainter, side: int) -> tuple[Tensor, Tensor]:
    """Return the example and a square hole as tensors."""
    size = model.image_size
    return to_model(load_photo(photo(size)).rgb, square(size, side), size)


def against_passes(model: Inpainter, counts: list[int], known_codes: str) -> list[float]:
    """Print time against samples; return the times."""
    image, mask, cond = condition(model)
    net, side = model.structure.pixelcnn, cond.shape[-1]
    positions = side * side
    codebook = model.vqvae.encoder.structure_quantiser.codebook
    with torch.no_grad():
        features = codebook[torch.zeros(1, side, side, dtype=torch.int64)].permute(0, 3, 1, 2)
        one_pass = fastest(lambda: net(features, cond), 7)
    network = fastest(lambda: model.condition(image, mask))
    print(
        f"one full pass {one_pass:.3f} s, so {positions} of them {positions * one_pass:.0f} s; "
        f"condition network {network:.3f} s ({str(model.dtype).removeprefix('torch.')})\n"
    )
    rows, times = [], []
    for n in counts:
        known = model.known(image, mask, known_codes)  # type: ignore[arg-type]
        alone = fastest(partial(sampled, model, cond, n, known))
        row = [
            str(n),
            f"{alone:.3f}",
            f"{alone + network:.3f}",
            f"{n * positions * one_pass / alone:.0f}",
            f"{n * positions * one_pass / (alone + network):.0f}",
        ]
        if isinstance(model.sampler, NativeSampler):
            products, project = model.sampler.products, model.sampler.project
            chain = fastest(partial(products, n, positions))
            every = chain + fastest(partial(products, n, positions, side)) + fastest(partial(project, cond))
            row += [f"{chain:.3f}", f"{alone / chain:.1f}", f"{every:.3f}", f"{alone / every:.1f}"]
        rows.append(row)
        times.append(alone)
    table(
        [
            "samples",
            "sampling, s",
            "with condition network, s",
            "times faster than passes",
            "the same with condition",
            "chain, s",
            "sampling / chain",
            "all products, s",
            "sampling / all",
        ][: len(rows[0])],
        rows,
    )
    return times


def sampled(model: Inpainter, cond: Tensor, n: int, known: Tensor | None = None) -> Sampled:
    """Sample the structures of seeds 0 to n - 1, their noise included."""
    positions = cond.shape[-2] * cond.shape[-1]
    noise = gumbel_noise(range(n), positions, model.structure.config.codebook_size)
    return model.sample(cond, known, noise, SamplingOptions())


def against_area(model: Inpainter, n: int) -> dict[str, list[tuple[float, float]]]:
    """Print time against the hole's share of the picture; return (share, seconds) of each kind of clamping."""
    size, rows = model.image_size, []
    found: dict[str, list[tuple[float, float]]] = {"none": [], "exact": [], "cells": []}
    for side in (size // 8, size // 4, 3 * size // 8, size // 2, 3 * size // 4, size):
        image, mask = given(model, side)
        cond, share, row = model.condition(image, mask), (side / size) ** 2, []
        for mode, curve in found.items():
            known = model.known(image, mask, mode)  # type: ignore[arg-type]
            drawn = cond.shape[-1] ** 2 if known is None else int((known < 0).sum())
            seconds = fastest(lambda c=cond, k=known: sampled(model, c, n, k), 2)
            curve.append((share, seconds))
            row.append(f"{seconds:.3f} ({drawn})")
        rows.append([f"{share:.3f}", *row])
    print(f"{n} samples, seconds (codes drawn of each)\n")
    table(["hole / picture", *found], rows)
    return found


def agreement(model: Inpainter, n: int) -> None:
    """Print how often the paths disagree with the cached sampler in float32, and how near the ties were."""
    cond = condition(model)[2]
    structure, options = model.structure, model.options()
    codebook = model.vqvae.encoder.structure_quantiser.codebook
    noise = gumbel_noise(range(n), cond.shape[-1] ** 2, len(codebook))
    wanted, rows = sample_cached(structure, codebook, cond, noise, options), []
    paths: dict[str, Callable[[], Sampled]] = {"rows": lambda: sample_rows(structure, codebook, cond, noise, options)}
    if isinstance(model.sampler, NativeSampler):
        for name, dtype in (("native float32", torch.float32), ("native bfloat16", torch.bfloat16)):
            paths[name] = lambda d=dtype: NativeSampler(structure, codebook, d)(cond, noise, options)
    for name, path in paths.items():
        found = path()
        differ = (wanted.codes != found.codes).flatten(1)
        firsts = [(k, int(row.long().argmax())) for k, row in enumerate(differ) if row.any()]
        seen = sum(int(row.long().argmax()) + 1 if row.any() else len(row) for row in differ)
        margins = [margin(model, wanted, cond, noise, options, k, position) for k, position in firsts]
        widest = f"{max(margins):.2g}" if margins else "none"
        rows.append([name, f"{n - len(firsts)} of {n}", f"{len(firsts)} in {seen}", widest])
    table(["path", "samples alike throughout", "first differences, in codes compared", "widest tie"], rows)


@torch.no_grad()
def margin(
    model: Inpainter, sampled: Sampled, cond: Tensor, noise: Tensor, options: SamplingOptions, k: int, position: int
) -> float:
    """Return how far the first two noisy logits are apart at a position."""
    codebook = model.vqvae.encoder.structure_quantiser.codebook
    logits = model.structure.logits(codebook[sampled.codes[k : k + 1]].permute(0, 3, 1, 2), cond)
    two = noisy_logits(logits.flatten(2)[:, :, position], noise[k : k + 1, position], options).topk(2).values[0]
    return float(two[0] - two[1])


def slow_paths(model: Inpainter) -> None:
    """Print the time of one sample in plain PyTorch, position by position and by rows."""
    cond = condition(model)[2]
    codebook, options = model.vqvae.encoder.structure_quantiser.codebook, SamplingOptions()
    noise = gumbel_noise([0], cond.shape[-1] ** 2, len(codebook))
    work = {"cached": sample_cached, "rows": sample_rows}
    if model.image_size <= 128:
        work["naive"] = sample_naive
    rows = [
        [k, f"{fastest(lambda f=f: f(model.structure, codebook, cond, noise, options), 1):.2f}"]
        for k, f in work.items()
    ]
    table(["in PyTorch, one sample", "s"], rows)


def plot(path: Path, name: str, counts: list[int], times: list[float], area: dict, n: int) -> None:
    """Draw time against samples and against the hole's share."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5))
    left.plot(counts, times, "o-")
    left.set(xlabel="samples of one picture", ylabel="seconds", title=f"{name}: drawing structures")
    for mode, curve in area.items():
        right.plot(*zip(*curve, strict=True), "o-", label=mode)
    right.set(xlabel="hole / picture", ylabel="seconds", title=f"{n} samples, known codes clamped")
    right.legend()
    for axes in (left, right):
        axes.set_ylim(0)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="paper-256")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--known-codes", choices=["none", "exact", "cells"], default="none")
    parser.add_argument("--area", type=int, default=8, help="samples for the times against the hole's area, 0 for none")
    parser.add_argument("--agree", type=int, default=8, help="samples to compare the paths with, 0 for none")
    parser.add_argument("--slow", action="store_true", help="also time the samplers in PyTorch")
    parser.add_argument("--plot", type=Path)
    a = parser.parse_args()
    model = subject(a.model, getattr(torch, a.dtype), a.device)
    kind = model.sampler.kind if isinstance(model.sampler, NativeSampler) else "PyTorch"
    print(f"{model.name}, weights {model.weights}, {torch.get_num_threads()} threads, sampler {kind}\n")
    times = against_passes(model, a.samples, a.known_codes)
    area = against_area(model, a.area) if a.area else {}
    if a.agree:
        agreement(model, a.agree)
    if a.slow:
        slow_paths(model)
    if a.plot:
        plot(a.plot, model.name, a.samples, times, area, a.area)


if __name__ == "__main__":
    main()
