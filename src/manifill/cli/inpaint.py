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
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, arg

from manifill.cli.options import FitArguments, SamplingArguments
from manifill.config import Fit


def inpaint(
    photo: Positional[Path],
    mask: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    *,
    out: Annotated[Path, arg(aliases=["-o"])],
    num_samples: Annotated[int, arg(aliases=["-n"])] = 8,
    model: str = "auto",
    seed: int | None = None,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    known_codes: Literal["exact", "cells", "none"] = "exact",
    fit: OmitArgPrefixes[FitArguments] = FitArguments(),  # type: ignore[valid-type]  # noqa: B008
    of: int | None = None,
    choose: Literal["diverse", "likely", "coherent"] = "diverse",
    near: Path | None = None,
    amount: float = 0.3,
    redraw: Path | None = None,
    invert_mask: bool = False,
    structures: bool = False,
    format: Literal["png", "jpeg", "webp", "tiff", "avif", "heif"] | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    limit: int | None = None,
    shard: str | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> int:
    """Complete photos in many ways: OUT/<photo>_000.png ..., a grid each, and manifest.jsonl.

    Args:
        photo: A photo, a folder of photos, or a .txt list of photos, with masks after a tab.
        mask: A picture, white where the hole is, for this photo or for all; or a folder of pictures of the photos'
            names, also as name_mask or name_mask001. Without it the photos' transparent part is the hole.
        out: Folder for the results.
        num_samples: How many completions of each photo.
        model: auto, which takes faces-128 where a hole meets a face and scenes-128 elsewhere, a bundled model's name, a
            model folder, or USER/REPO[@REVISION] on the Hugging Face hub (extra `hub`).
        seed: Seed of the first completion of each photo, the next ones count up; none or -1 draws one.
        sampling: How codes are sampled.
        known_codes: Structure codes taken from the photo instead of drawn: those that see nothing of the hole (exact),
            all whose own 8x8 pixels are known (cells: faster, approximate), or none, as in the paper.
        fit: How the hole is fitted to the model and the result to the photo.
        of: Draw so many and keep NUM_SAMPLES of them.
        choose: Which to keep, best first: diverse, likely, or coherent (likely when they are read from right to left).
        near: A completion that was saved, of the same photo and mask: draw more like it.
        amount: How far from it, 0 (the same) to 1 (any).
        redraw: A mask of the part of the hole to draw anew; the rest of the completion named by NEAR is kept exactly.
        invert_mask: Black is the hole.
        structures: Also write every completion's decoded structure.
        format: Of the completions: PNG (TIFF for CMYK) unless given. All but png and tiff, and webp with a quality,
            change all pixels a little.
        quality: 1 to 100, of the formats with loss.
        overwrite: Replace results of an earlier run.
        skip_existing: Leave photos alone whose results are all there: go on after an interruption.
        limit: The first photos alone.
        shard: i/n, every n-th photo from i on; torchrun's and accelerate's processes divide the photos by themselves.
        device: auto, cpu, cuda, ...
        dtype: auto draws in float32, so that a seed means the same everywhere, and paints in bfloat16 where that helps.

    """
    began = time.perf_counter()
    with _importing():
        import torch

        from manifill.cli.terminal import printable
        from manifill.files import pairs
        from manifill.files.batch import Batch
        from manifill.files.manifest import Settings, find_line, read_completion
        from manifill.files.results import Output
        from manifill.inpainter import Completions, Inpainter, seeds_from
        from manifill.memory import keep_freed_memory

    if overwrite and skip_existing:
        raise ValueError("--overwrite and --skip-existing contradict each other")
    if redraw is not None and near is None:
        raise ValueError("--redraw needs the completion to keep the rest of: name it with --near")
    if of is not None and near is not None:
        raise ValueError("--of chooses among new completions; it does not go with --near")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected 1 or more")
    keep_freed_memory()
    left_out: list[str] = []
    found, lonely = pairs.pairs(photo, mask, out, left_out)
    mine, suffix = pairs.share(found[:limit], shard)
    if near is not None and len(found) > 1:
        raise ValueError("--near goes on from a completion of one photo; name that photo")
    inpainter = Inpainter.from_pretrained(model, device, None if dtype == "auto" else getattr(torch, dtype))
    inpainter.check(num_samples, known_codes, of, choose)
    first = seeds_from(seed, of or num_samples)[0]
    asked_for = Settings(Fit(**vars(fit)), known_codes, vars(sampling))
    settings = asked_for
    if near is not None:
        line = find_line(near)
        settings = asked_for.of_saved(line)
    inpainter.options(**settings.sampling)

    def complete(pair: pairs.Pair) -> Completions:
        asked = inpainter(
            pair.photo,
            pair.mask,
            num_samples=num_samples,
            seed=first,
            invert_mask=invert_mask,
            known_codes=settings.known_codes,
            fit=settings.fit,
            of=of,
            choose=choose,
            **settings.sampling,
        )
        if near is None:
            return asked
        completion = read_completion(asked, near)
        if redraw is not None:
            return inpainter.redraw(completion, redraw, num_samples=num_samples, seed=first)
        return inpainter.near(completion, amount, num_samples=num_samples, seed=first)

    existing = "replace" if overwrite else "skip" if skip_existing else "refuse"
    output = Output(out, f"manifest{suffix}.jsonl", quality, structures)
    batch = Batch(complete, output, num_samples, format, existing, alone=len(found) + len(lonely) == 1)
    with output.held():
        tally = batch.run(mine, lambda path: tqdm.write(printable(path)))
    failures = lonely + tally.failures
    print(
        f"{tally.done * num_samples} completions of {tally.done} photos, {tally.skipped} skipped, "
        f"{len(failures)} failed, seeds {first} to {first + (of or num_samples) - 1}, "
        f"in {time.perf_counter() - began:.1f} s"
    )
    if left_out:
        print(f"{len(left_out)} files left out:", *map(printable, left_out), sep="\n  ")
    for failure in failures:
        print(f"manifill: failed: {printable(failure)}", file=sys.stderr)
    if shard is None:
        pairs.wait_for_others()
    return 1 if failures else 0


def info(model: Positional[str] = "faces-128", /) -> int:
    """Say what is in a model (sizes, parameters, figures, hash) and how it would be sampled here.

    Args:
        model: A bundled model's name, a model folder, or USER/REPO[@REVISION] on the Hugging Face hub (extra `hub`).

    """
    from manifill.hub import title
    from manifill.inpainter import find_model, from_hub
    from manifill.networks.checkpoint import NETWORKS, load_network, parameters, weights_name
    from manifill.sampling.native import sampler_here

    folder = find_model(model)
    called = title(model) if from_hub(model) else folder.name
    headers = {  # all are read and checked before anything is said of them
        name: load_network(folder, name)[1]
        for name in NETWORKS
        if name == "vqvae" or (folder / f"{name}.safetensors").exists()
    }
    print(f"{called}  weights {weights_name(headers.items())}  in {folder}")
    for name in NETWORKS:
        if name not in headers:
            print(f"{name}: not in this folder")
            continue
        header = headers[name]
        size = header.path.stat().st_size / 2**20
        print(
            f"{name}: {parameters(header) / 1e6:.2f} M parameters, {size:.1f} MiB, {header.image_size} pixels, "
            f"codebooks {header.codebook}, step {header.step}"
        )
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
