"""`manifill inpaint` and `manifill info`."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg


def inpaint(
    photo: Positional[Path],
    mask: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    *,
    out: Annotated[Path, arg(aliases=["-o"])],
    num_samples: Annotated[int, arg(aliases=["-n"])] = 8,
    model: str = "faces-128",
    seed: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    known_codes: Literal["exact", "cells", "none"] = "exact",
    invert_mask: bool = False,
    structures: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> int:
    """Complete a square photo in many ways: OUT/<photo>_000.png ..., a grid and manifest.jsonl.

    Args:
        photo: The photo.
        mask: A picture of the same size, white where the hole is; without it the photo's transparent part is the hole.
        out: Folder for the results.
        num_samples: How many completions.
        model: A bundled model's name or a model folder.
        seed: Seed of the first completion, the next ones count up; none or -1 draws one.
        temperature: Above 0; smaller is likelier and less diverse. The model's own unless given.
        top_k: Draw among the k likeliest codes, 0 for all. The model's own unless given.
        top_p: Draw among the likeliest codes that hold this share. The model's own unless given.
        known_codes: Structure codes taken from the photo instead of drawn: those that see nothing of the hole (exact),
            all whose own 8x8 pixels are known (cells: faster, approximate), or none, as in the paper.
        invert_mask: Black is the hole.
        structures: Also write every completion's decoded structure.
        overwrite: Replace results of an earlier run.
        device: auto, cpu, cuda, ...
        dtype: auto draws in float32, so that a seed means the same everywhere, and paints in bfloat16 where that helps.

    """
    began = time.perf_counter()
    with _importing():
        import torch

        from manifill import output
        from manifill.inpainter import Inpainter
        from manifill.memory import keep_freed_memory

    keep_freed_memory()
    paths = output.planned(out, photo.stem, num_samples)
    if not overwrite:
        output.check_free(paths)
    inpainter = Inpainter.from_pretrained(model, device, None if dtype == "auto" else getattr(torch, dtype))
    completions = inpainter(
        photo, mask, num_samples=num_samples, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p,
        invert_mask=invert_mask, known_codes=known_codes,
    )  # fmt: skip
    side = completions.hole.shape[0]
    if side > inpainter.image_size:
        size = inpainter.image_size
        soft = f"the hole is painted at {size}x{size} and enlarged, so it will look soft"
        print(f"manifill: warning: {photo}: {side}x{side} pixels; {soft}", file=sys.stderr)
    name = "(transparency)" if mask is None else str(mask)
    grid = output.write(completions, out, photo.stem, name, structures, lambda path: print(path, flush=True))
    print(f"{grid}\n{len(completions)} completions, seeds {completions.seeds[0]} to {completions.seeds[-1]}, "
          f"in {time.perf_counter() - began:.1f} s")  # fmt: skip
    return 0


def info(model: Positional[str] = "faces-128", /) -> int:
    """Say what is in a model (sizes, parameters, figures, hash) and how it would be sampled here.

    Args:
        model: A bundled model's name or a model folder.

    """
    from manifill.checkpoint import NETWORKS, model_hash, parameters, read_header
    from manifill.inpainter import find_model
    from manifill.native import sampler_here

    folder = find_model(model)
    print(f"{folder.name}  weights {model_hash(folder)}  in {folder}")
    for name in NETWORKS:
        if name != "vqvae" and not (folder / f"{name}.safetensors").exists():
            print(f"{name}: not in this folder")
            continue
        header = read_header(folder, name)
        size = header.path.stat().st_size / 2**20
        print(f"{name}: {parameters(header) / 1e6:.2f} M parameters, {size:.1f} MiB, {header.image_size} pixels, "
              f"codebooks {header.codebook}, step {header.step}")  # fmt: skip
        print("  " + ", ".join(f"{k} {v}" for k, v in header.config.items()))
        if header.figures:
            print("  validation: " + ", ".join(f"{k} {v:.4g}" for k, v in header.figures.items()))
    card = folder / "README.md"
    print(f"card: {card}" if card.exists() else "card: none")
    print(f"native sampler: {sampler_here()}")
    return 0


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import without looking for garbage, then or at exit, among what stays: half a second of a short command."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
