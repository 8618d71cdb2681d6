"""Time from photo to completions, and the naive sampler against the cached one, in one run.

    python benchmarks/speed.py [--model faces-128] [--samples 8] [--naive]

Quote the ratios; absolute times depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from manifill.inpainter import Inpainter
from manifill.structure import SamplingOptions, gumbel_noise, sample_naive

EXAMPLES = Path(__file__).parent.parent / "examples"


def timed(work, times: int = 3) -> float:  # noqa: ANN001
    """Return the median seconds of `work()`."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="faces-128")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--naive", action="store_true", help="also time the naive sampler (slow)")
    a = parser.parse_args()
    began = time.perf_counter()
    model = Inpainter.from_pretrained(a.model, "cpu")
    print(f"threads {torch.get_num_threads()}, weights {model.weights}, loading {time.perf_counter() - began:.2f} s")
    photo, mask = EXAMPLES / "astronaut.png", EXAMPLES / "centre.png"
    print(f"first completion of one: {timed(lambda: next(iter(model(photo, mask, num_samples=1, seed=0)))):.2f} s")
    print(f"{a.samples} completions: {timed(lambda: list(model(photo, mask, num_samples=a.samples, seed=0))):.2f} s")
    side, config = model.image_size // 8, model.structure.config
    cond = torch.randn(1, 8 * config.condition_width, side, side)
    seeds, options = range(a.samples), SamplingOptions()
    cached = timed(lambda: model.sample(cond, seeds, options))
    print(f"cached sampler, {a.samples} structures of {side}x{side} codes: {cached:.2f} s")
    if a.naive:
        codebook = model.vqvae.encoder.structure_quantiser.codebook
        noise = gumbel_noise(seeds, side * side, len(codebook))
        naive = timed(lambda: sample_naive(model.structure, codebook, cond, noise, options), 1)
        print(f"naive sampler: {naive:.1f} s, {naive / cached:.0f} times the cached one")


if __name__ == "__main__":
    main()
