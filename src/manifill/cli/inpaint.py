"""`manifill inpaint` and `manifill info`."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, arg

from manifill.cli.options import FILE, FOLDER, FitArguments, SamplingArguments, check_folder, plainly
from manifill.cli.terminal import counted, printable
from manifill.config import Fit, SamplingOptions, check_counts, seeds_from

if TYPE_CHECKING:
    import torch

ALIASES = {"jpg": "jpeg", "tif": "tiff", "heic": "heif"}


@plainly
@dataclass(frozen=True)
class FileArguments:
    """How results are written."""

    format: Literal["png", "jpg", "jpeg", "webp", "tif", "tiff", "avif", "heic", "heif"] | None = None
    """Of the completions: PNG (TIFF for CMYK) unless given. All but png and tiff, and webp with a quality, change all
    pixels a little."""
    quality: int | None = None
    """1 to 100, of the formats with loss."""
    structures: bool = False
    """Also write every completion's decoded structure."""
    overwrite: bool = False
    """Replace results of an earlier run."""
    skip_existing: bool = False
    """Leave photos alone whose results are all there: go on after an interruption."""


@plainly
@dataclass(frozen=True)
class FolderArguments:
    """Of folders and lists, which photos are done."""

    limit: int | None = None
    """The first photos alone."""
    shard: str | None = None
    """i/n, every n-th photo from i on; torchrun's and accelerate's processes divide the photos by themselves."""


@dataclass(frozen=True)
class MachineArguments:
    """Where it is computed, and in which precision."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto samples in float32, so that a seed means the same everywhere, and paints in bfloat16 where that helps."""

    def torch_dtype(self) -> torch.dtype | None:
        """Return PyTorch's precision, None for auto."""
        import torch

        return None if self.dtype == "auto" else getattr(torch, self.dtype)


@plainly
@dataclass(frozen=True)
class BeyondArguments:
    """What the paper does not have."""

    known_codes: Literal["exact", "cells", "none"] = "exact"
    """Structure codes taken from the photo instead of sampled: those that see nothing of the hole (exact), all whose
    own 8x8 pixels are known (cells: faster, approximate), or none, as in the paper."""
    near: Annotated[Path | None, FILE] = None
    """A completion that was saved, of the same photo and mask: sample more like it."""
    amount: float = 0.3
    """How far from it, 0 (the same) to 1 (any)."""
    redraw: Annotated[Path | None, FILE] = None
    """A mask of the part of the hole to sample anew; the rest of the completion named by --near is kept exactly."""


@plainly
def inpaint(
    photo: Positional[Path],
    mask: Positional[Path | None] = None,
    /,
    *,
    out: Annotated[Path, FOLDER, arg(aliases=["-o"])],
    num_samples: Annotated[int, arg(aliases=["-n"])] = 8,
    model: str = "auto",
    seed: int | None = None,
    of: int | None = None,
    choose: Literal["diverse", "likely", "coherent"] = "diverse",
    invert_mask: bool = False,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    files: Annotated[FileArguments, OmitArgPrefixes, arg(name="file")] = FileArguments(),
    folders: Annotated[FolderArguments, OmitArgPrefixes, arg(name="folder")] = FolderArguments(),
    machine: OmitArgPrefixes[MachineArguments] = MachineArguments(),
    fit: OmitArgPrefixes[FitArguments] = FitArguments(),  # type: ignore[valid-type]  # noqa: B008
    beyond: Annotated[BeyondArguments, OmitArgPrefixes, arg(name="beyond-the-paper")] = BeyondArguments(),
) -> int:
    """Complete photos in many ways: OUT/<photo>_000.png ..., a grid each, and manifest.jsonl.

    Args:
        photo: A photo, a folder of photos, or a .txt list of photos, with masks after a tab.
        mask: A picture, white where the hole is, for this photo or for all; or a folder of pictures of the photos'
            names, also as name_mask or name_mask001. Without it, masks that lie beside the photos of a folder by these
            names, and otherwise the photos' transparent part.
        out: Folder for the results.
        num_samples: How many completions of each photo.
        model: auto, which takes faces-128 where a hole meets a face and scenes-128 elsewhere, a bundled model's name, a
            model folder, or USER/REPO[@REVISION] on the Hugging Face hub (extra `hub`).
        seed: Seed of the first completion of each photo, the next ones count up; without it or with -1 a random one.
        of: Sample so many and keep NUM_SAMPLES of them.
        choose: Which to keep, best first: diverse, likely, or coherent (likely when they are read from right to left).
        invert_mask: Black is the hole.
        sampling: How codes are sampled.
        files: How results are written.
        folders: Of folders and lists, which photos are done.
        machine: Where it is computed, and in which precision.
        fit: How the hole is fitted to the model and the result to the photo.
        beyond: What the paper does not have.

    """
    began = time.perf_counter()
    with importing():  # of what is light; mistakes that need no model are told before PyTorch is loaded
        from manifill.files import pairs
        from manifill.files.batch import Batch
        from manifill.files.manifest import find_line, read_completion, saved_options
        from manifill.files.results import Output
        from manifill.hub import find_model, from_hub
        from manifill.photos.mask import load_mask
        from manifill.photos.photo import load_photo

    check_folder(out)
    check_counts(num_samples, of)
    options: dict[str, Any] = {"fit": Fit(**vars(fit)), "known_codes": beyond.known_codes, **vars(sampling)}
    SamplingOptions(**{name: value for name, value in vars(sampling).items() if value is not None})
    first = seeds_from(seed, of or num_samples)[0]
    seeds: dict[str, Any] = {"num_samples": num_samples, "seed": first}
    near, redraw = beyond.near, beyond.redraw
    if files.overwrite and files.skip_existing:
        raise ValueError("--overwrite and --skip-existing contradict each other")
    if redraw is not None and near is None:
        raise ValueError("--redraw needs the completion to keep the rest of: name it with --near")
    if of is not None and near is not None:
        raise ValueError("--of chooses among new completions; it does not go with --near")
    if not 0 <= beyond.amount <= 1:
        raise ValueError(f"amount is {beyond.amount}; expected 0 (the same) to 1 (any)")
    if folders.limit is not None and folders.limit < 1:
        raise ValueError(f"limit is {folders.limit}; expected 1 or more")
    if model != "auto" and not from_hub(model):
        find_model(model)
    left_out: list[str] = []
    found, lonely = pairs.pairs(photo, mask, out, left_out)
    mine, suffix = pairs.pairs_of_process(found[: folders.limit], folders.shard)
    if near is not None and len(found) > 1:
        raise ValueError("--near goes on from a completion of one photo; name that photo")
    if near is not None:
        options = saved_options(find_line(near), vars(sampling))
    options |= {"of": of, "choose": choose}
    alone, read = len(found) + len(lonely) == 1, {}
    if alone:
        for pair in found:
            read[pair.photo] = load_photo(pair.photo)
            load_mask(pair.mask, read[pair.photo], invert_mask, notes=[])

    def complete(pair: pairs.Pair) -> Completions:
        asked = inpainter(read.get(pair.photo, pair.photo), pair.mask, invert_mask=invert_mask, **seeds, **options)
        if near is None:
            return asked
        completion = read_completion(asked, near)
        if redraw is not None:
            return inpainter.redraw(completion, redraw, **seeds)
        return inpainter.near(completion, beyond.amount, **seeds)

    existing = "replace" if files.overwrite else "skip" if files.skip_existing else "refuse"
    output = Output(out, f"manifest{suffix}.jsonl", files.quality, files.structures)
    format = ALIASES.get(files.format or "", files.format)
    batch = Batch(complete, output, num_samples, format, existing, alone)  # type: ignore[arg-type]
    with output.held():
        waiting, tally = batch.to_do(mine)
        with importing():
            from manifill.inpainter import Completions, Inpainter
            from manifill.memory import keep_freed_memory

        keep_freed_memory()
        inpainter = Inpainter.from_pretrained(model, machine.device, machine.torch_dtype())
        inpainter.check(num_samples, options["known_codes"], of, choose)
        batch.run(waiting, tally, lambda path: tqdm.write(printable(path)))
    failures, last = lonely + tally.failures, first + (of or num_samples) - 1
    said = f"seed {first}" if last == first else f"seeds {first} to {last}"
    print(
        f"{counted(tally.done * num_samples, 'completion')} of {counted(tally.done, 'photo')}, "
        f"{tally.skipped} skipped, {len(failures)} failed, {said}, in {time.perf_counter() - began:.1f} s"
    )
    if left_out:
        print(f"{counted(len(left_out), 'file')} left out:", *map(printable, left_out), sep="\n  ")
    for failure in failures:
        print(f"manifill: failed: {printable(failure)}", file=sys.stderr)
    if folders.shard is None:
        pairs.wait_for_others()
    return 1 if failures else 0


@plainly
def info(model: Positional[str] = "auto", /) -> int:
    """Say what is in a model (sizes, parameters, figures, hash) and how it would be sampled here.

    Args:
        model: auto, for both that it chooses from, a bundled model's name, a model folder, or USER/REPO[@REVISION] on
            the Hugging Face hub (extra `hub`).

    """
    names = [model]
    if model == "auto":
        from manifill.inpainter import FACES, SCENES

        names = [FACES, SCENES]
        print(f"auto: {FACES} where a hole meets a face, {SCENES} elsewhere; both in one photo where it has both\n")
    for name in names:
        _describe(name)
    from manifill.sampling.native import sampler_here

    print(f"native sampler: {sampler_here()}")
    return 0


def _describe(model: str) -> None:
    """Print what is in a model."""
    from manifill.hub import find_model, from_hub, title

    folder = find_model(model)
    from manifill.networks.checkpoint import NETWORKS, load_network, parameters, present, weights_name

    called = title(model) if from_hub(model) else folder.name
    # all are read and checked before anything is said of them; a folder without a VQ-VAE is no model
    headers = {name: load_network(folder, name)[1] for name in dict.fromkeys(["vqvae", *present(folder)])}
    print(f"{called}  weights {weights_name(headers.items())}  in {folder}")
    if (domain := headers["vqvae"].domain) is not None:
        print(f"knows {domain.subject}" + (", framed by eyes and mouth" if domain.framing else ""))
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
    print(f"card: {card}\n" if card.exists() else "card: none\n")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage, then or at exit, among what stays: half a second of a short command."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
