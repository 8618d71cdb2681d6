"""From photo to completions: the condition network, painting against its convolutions alone, and the whole way.

    python benchmarks/painting.py [--model paper-256] [--samples 1 8] [--dtype bfloat16] [--many 64]

`paper-256` has random weights. `--many` paints so many completions and reports the process's largest memory. Quote the
ratios; absolute times depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable

import torch
from sampling import condition, sampled, table
from timing import fastest, photo, square, subject

from manifill.inpainter import Inpainter
from manifill.memory import keep_freed_memory
from manifill.networks.layers import SameConv2d


def convolutions(work: Callable[[], object]) -> Callable[[], object]:
    """Return what runs the convolutions that `work()` runs, on the same inputs, and nothing else."""
    seen: list[tuple] = []
    convolve = SameConv2d.convolve
    SameConv2d.convolve = lambda *a: seen.append(a) or convolve(*a)  # type: ignore[method-assign]
    work()
    SameConv2d.convolve = convolve

    @torch.no_grad()
    def alone() -> None:
        for arguments in seen:
            convolve(*arguments)

    return alone


def networks(model: Inpainter) -> None:
    """Print each network's time against that of its convolutions."""
    image, mask, cond = condition(model)
    features = model.image_features(image, mask)
    structure, rows = model.vqvae.lookup(sampled(model, cond, 1).codes), []

    @torch.no_grad()
    def paint() -> object:
        return model.texture.paint(*features, structure, mask)

    for name, work in (
        ("condition network, once a picture", lambda: model.condition(image, mask)),
        ("painting: once a picture", lambda: model.image_features(image, mask)),
        ("painting: each sample", paint),
    ):
        seconds, convolving = fastest(work, 7), fastest(convolutions(work), 7)
        rows.append([name, f"{seconds:.3f}", f"{convolving:.3f}", f"{seconds / convolving:.2f}"])
    table(["", "s", "its convolutions alone, s", "ratio"], rows)


def whole(model: Inpainter, counts: list[int]) -> None:
    """Print the time from photo to completions."""
    size, rows = model.image_size, []
    picture, hole = photo(size), square(size, size // 2)
    for n in counts:
        first = fastest(lambda n=n: next(iter(model(picture, hole, num_samples=n, seed=0))), 2)
        seconds = fastest(lambda n=n: list(model(picture, hole, num_samples=n, seed=0)), 2)
        rows.append([str(n), f"{first:.2f}", f"{seconds:.2f}", f"{seconds / n:.2f}"])
    table(["completions", "first after, s", "all after, s", "each, s"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="paper-256")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--many", type=int, default=0)
    a = parser.parse_args()
    keep_freed_memory()  # as the command line does
    model = subject(a.model, None if a.dtype == "auto" else getattr(torch, a.dtype), a.device)
    drawn, painted = (str(d).removeprefix("torch.") for d in (model.dtype, model.paint_dtype))
    print(
        f"{model.name}, weights {model.weights}, {torch.get_num_threads()} threads, drawn in {drawn}, "
        f"painted in {painted}\n"
    )
    if a.many:
        size = model.image_size
        for _ in model(photo(size), square(size, size // 2), num_samples=a.many, seed=0):
            pass
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(f"{a.many} completions: at most {peak / 2**20:.0f} MiB resident")
        return
    networks(model)
    whole(model, a.samples)


if __name__ == "__main__":
    main()
