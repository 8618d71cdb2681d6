"""The command line: one verb a function; heavy imports inside each verb."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

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
        _warn(f"{photo}: {side}x{side} pixels; the hole is painted at {size}x{size} and enlarged, so it will look soft")
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


def train(
    stage: Annotated[Literal["all", "vqvae", "structure", "texture"], tyro.conf.Positional],
    /,
    *,
    data: tuple[Path, ...],
    out: Path,
    preset: Literal["paper-256", "faces-128", "tiny"] = "paper-256",
    val: tuple[Path, ...] = (),
    seed: int = 0,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    precision: Literal["bf16", "fp32"] = "bf16",
    limit: int | None = None,
    init_from: Path | None = None,
    force: bool = False,
    log_every: int = 50,
    validate_every: int = 500,
    checkpoint_every: int = 250,
    quiet: bool = False,
) -> int:
    """Train all stages or one; the same command resumes after an interruption, to the same weights.

    Args:
        stage: all, or one of vqvae, structure and texture; the last two need the first in OUT/model.
        data: Folders of pictures, .tar shards or single files.
        out: Folder of the run: checkpoints, metrics.jsonl and previews of each stage, and OUT/model.
        preset: Sizes and settings.
        val: Pictures to validate on; without it every 20th training picture is held out.
        seed: Seed of the weights, the order of the data and the masks.
        steps: Optimiser steps of each stage, in place of the preset's.
        batch_size: Pictures a step, in place of the preset's.
        learning_rate: In place of the preset's.
        precision: bf16 autocast or fp32.
        limit: Use the first pictures alone.
        init_from: Start from the weights of this model folder.
        force: Go on with a VQ-VAE that carries nothing or has collapsed.
        log_every: Steps between lines of metrics.jsonl.
        validate_every: Steps between validation figures, previews and exports.
        checkpoint_every: Steps between checkpoints.
        quiet: No progress bar.

    """
    from manifill.train.stages import STAGES, RunOptions
    from manifill.train.stages import train as run_stages

    stages = STAGES if stage == "all" else (stage,)
    options = RunOptions(
        seed=seed, steps=steps, batch_size=batch_size, learning_rate=learning_rate, precision=precision, limit=limit,
        init_from=init_from, force=force, log_every=log_every, validate_every=validate_every,
        checkpoint_every=checkpoint_every, quiet=quiet,
    )  # fmt: skip
    run_stages(stages, data, out, preset, options, val)
    return 0


def convert(checkpoint: Positional[Path], /, *, out: Path, image_size: int = 256) -> int:
    """Turn the authors' TensorFlow checkpoint into a model folder (needs the extra `convert`).

    Args:
        checkpoint: Folder with model.ckpt.index and its data file.
        out: New model folder.
        image_size: Side of the pictures it was trained on, the one thing a checkpoint does not say.

    """
    from manifill.convert import convert as run

    names = run(checkpoint, out, image_size)
    print(f"{out}: {', '.join(names)}")
    return 0


def pack(
    model: Positional[Path],
    /,
    *,
    out: Path,
    half: bool = False,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """Copy a model folder for release: half the size, and its own defaults for sampling.

    Args:
        model: A model folder.
        out: New model folder.
        half: Store structure, texture and discriminator in 16 bits; the VQ-VAE keeps 32, its codebooks are exact.
        temperature: The model's own temperature.
        top_k: The model's own top-k.
        top_p: The model's own top-p.

    """
    from manifill.checkpoint import pack as run

    run(model, out, half, {"temperature": temperature, "top_k": top_k, "top_p": top_p})
    print(out)
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


def _warn(message: Any, *_: Any, **__: Any) -> None:
    print(f"manifill: warning: {message}", file=sys.stderr)


def main() -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    verbs = {"inpaint": inpaint, "train": train, "info": info, "convert": convert, "pack": pack}
    warnings.showwarning = _warn
    try:
        return tyro.extras.subcommand_cli_from_dict(verbs, prog="manifill", description=__doc__)
    except (ValueError, OSError) as error:
        print(f"manifill: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("manifill: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
