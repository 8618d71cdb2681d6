"""`manifill evaluate`, `manifill ablate`, `manifill figures` and `manifill masks`: what is measured, and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from manifill.cli.extras import need
from manifill.cli.options import FOLDER, FitArguments, SamplingArguments, check_folder, plainly
from manifill.config import Fit
from manifill.hub import find_model, from_hub


@plainly
@dataclass(frozen=True)
class JudgeArguments:
    """The networks that judge."""

    features: tuple[Path, ...] = ()
    """TorchScript feature networks, for Fréchet distance, precision and perceptual distance."""
    inception: Path | None = None
    """Weights of the Inception network of the published figures (FID, IS), or a folder that they are in or fetched
    to."""
    lpips_alex: Path | None = None
    """The same of LPIPS with AlexNet."""
    lpips_vgg: Path | None = None
    """The same with VGG16."""

    def check(self) -> None:
        """Raise ValueError where a file is missing, or a package that metrics need."""
        need("evaluate", "skimage", "sklearn", "matplotlib")
        for path in (*self.features, self.inception, self.lpips_alex, self.lpips_vgg):
            if path is not None and not path.exists():
                raise ValueError(f"{path}: no such file or folder")


@plainly
def evaluate(
    *,
    out: Annotated[Path, FOLDER],
    data: Annotated[tuple[Path, ...], arg(aliases=["--real"])] = (),
    model: tuple[str, ...] = ("faces-128",),
    pred: tuple[Path, ...] = (),
    baselines: tuple[Literal["telea", "navier-stokes", "biharmonic"], ...] = (),
    protocol: str = "paper-centre",
    masks: Path | None = None,
    count: int | None = None,
    samples: int | None = None,
    of: int | None = None,
    choose: Literal["diverse", "likely", "coherent"] = "diverse",
    seed: int = 0,
    size: int | None = None,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    known_codes: Literal["exact", "cells", "none"] = "exact",
    fit: OmitArgPrefixes[FitArguments] = FitArguments(strategy="resize", thin=False),  # type: ignore[valid-type,call-arg]  # noqa: B008
    judges: Annotated[JudgeArguments, OmitArgPrefixes, arg(name="judge")] = JudgeArguments(),
    shard: str = "0/1",
    merge: tuple[Path, ...] = (),
    true_codes: bool = False,
    curve: bool = False,
    report: bool = False,
    device: str = "auto",
) -> int:
    """Measure models, baselines and folders of results: OUT/figures.json, .md, .tex and .csv, and, on request, a page.

    Args:
        out: Folder for the results.
        data: The real pictures: folders, .tar shards or single files.
        model: Bundled models' names, model folders or USER/REPO on the hub; none with --model alone.
        pred: Folders of another system's results, named after the pictures.
        baselines: Classical methods to put beside them (extra [evaluate]).
        protocol: Where the holes are: paper-centre, authors-random, pic-best50, pconv-10 to pconv-60, lama-...,
            comod-..., repaint-...
        masks: A folder that `manifill masks` wrote, in place of the protocol's own holes.
        count: The first pictures alone.
        samples: Completions of each picture that count: 5 unless given. pic-best50 without it takes, as published, the
            one nearest to the original of the 10 likeliest of 50.
        of: Draw so many of each picture and keep SAMPLES of them.
        choose: Which to keep, best first: diverse, likely, or coherent (likely when they are read from right to left).
        seed: Sample s of picture k has the seed SEED + 1000 k + s.
        size: Side of the pictures in pixels; the first model's unless given.
        sampling: How codes are sampled.
        known_codes: As in inpaint.
        fit: As in inpaint.
        judges: The networks that judge.
        shard: i/n: every n-th picture from i on; merge the shards' folders afterwards.
        merge: Folders of shards to merge, in place of measuring.
        true_codes: Also paint with the true structure codes, which only the texture generator can spoil.
        curve: Also measure quality against diversity over temperature and top-p.
        report: Also write OUT/report.html.
        device: auto, cpu, cuda, ...

    """
    check_folder(out)
    judges.check()
    if not data and not merge:
        raise ValueError("evaluate: no pictures; name them with --data")
    if (curve or report) and (merge or shard != "0/1"):
        raise ValueError("evaluate: --curve and --report need all pictures; they do not go with --shard and --merge")
    for path in data:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
    for path in (*pred, *merge, *([masks] if masks else [])):
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder")
    for name in model:
        if name == "auto":
            raise ValueError("evaluate measures one model at a time; auto is two, so name one of them")
        if not from_hub(name):
            find_model(name)
    from manifill.data.pictures import Pictures
    from manifill.evaluate import run, table
    from manifill.evaluate.features import load_judges
    from manifill.inpainter import Inpainter

    if merge:
        print(table.to_text(run.join(merge, out)))
        return 0
    inpainters = [Inpainter.from_pretrained(name, device) for name in model]
    side = size or next((m.image_size for m in inpainters), 256)
    fit = Fit(**vars(fit))
    picking = run.picked(protocol, samples, of, choose)
    listed = run.methods(inpainters, picking, seed, vars(sampling), known_codes, fit, baselines, pred, true_codes)
    networks, perceptual = load_judges(**vars(judges))
    pictures = Pictures(data, side, count)
    for name in pictures.skipped:
        print(f"  unreadable: {name}")
    task = run.task(pictures, protocol, networks, perceptual, masks, shard)
    if result := run.evaluate(task, listed, out, report, curve):  # a shard alone has none
        print(table.to_text(result))
    return 0


@plainly
def ablate(
    *,
    data: tuple[Path, ...],
    out: Annotated[Path, FOLDER],
    val: tuple[Path, ...] = (),
    preset: str = "faces-64",
    tables: tuple[Literal[2, 3], ...] = (2, 3),
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    judges: Annotated[JudgeArguments, OmitArgPrefixes, arg(name="judge")] = JudgeArguments(),
    perceptual: Path | None = None,
    model: str | None = None,
    protocol: str = "paper-centre",
    quiet: bool = False,
) -> int:
    """Train and tabulate the paper's ablations at a given scale: OUT/ablations.md and ablations.json.

    Args:
        data: The training pictures: folders, .tar shards or single files.
        out: Folder of the runs; the same command goes on after an interruption.
        val: Pictures to measure on; without it every 20th training picture is held out.
        preset: Sizes and settings of the VQ-VAE and the structure generator, which are trained once, and of the
            texture generators, which all paint the same sampled structures.
        tables: 2 varies the attention, 3 the feature losses.
        steps: Optimiser steps of each texture generator, in place of the preset's.
        batch_size: Pictures a step, in place of the preset's.
        seed: Seed of all runs.
        judges: The networks that judge.
        perceptual: VGG-16's weights (.safetensors or .pth) or a TorchScript feature network, for the perceptual and
            style losses; without it they are left out.
        model: A model whose VQ-VAE and structure generator to take, in place of training them.
        protocol: Where the holes are when measuring.
        quiet: No progress bar.

    """
    check_folder(out)
    judges.check()
    from manifill.evaluate.ablations import ablate as train_and_measure
    from manifill.evaluate.features import load_judges
    from manifill.train.config import RunOptions

    networks, distances = load_judges(**vars(judges))
    options = RunOptions(seed=seed, steps=steps, batch_size=batch_size, perceptual=perceptual, quiet=quiet)
    first = find_model(model) if model else None
    train_and_measure(data, val, out, preset, tables, options, networks, distances, protocol, first)
    print((out / "ablations.md").read_text(), end="")
    return 0


@plainly
def figures(
    *,
    data: tuple[Path, ...],
    out: Annotated[Path, FOLDER],
    model: tuple[str, ...] = ("faces-128",),
    pred: tuple[Path, ...] = (),
    run: Path | None = None,
    protocol: str = "paper-centre",
    count: int = 4,
    samples: int = 5,
    seed: int = 0,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    device: str = "auto",
) -> int:
    """Draw the paper's figures: structures and completions, the two levels, methods and ablations side by side.

    Args:
        data: The pictures: folders, .tar shards or single files.
        out: Folder for figure1.png, figure2.png, figure3.png and, with RUN, figure5.png and figure6.png.
        model: Models' names, folders or USER/REPO; figures 1 and 2 are of the first, figure 3 of all.
        pred: Folders of other systems' results for figure 3, named after the pictures.
        run: Folder of `manifill ablate`, for figures 5 and 6.
        protocol: Where the holes are.
        count: The first pictures alone.
        samples: Completions of each picture.
        seed: Seed of the first completion.
        sampling: How codes are sampled.
        device: auto, cpu, cuda, ...

    """
    check_folder(out)
    from manifill.data.pictures import Pictures
    from manifill.evaluate.paper_figures import write_figures
    from manifill.inpainter import Inpainter

    models = [Inpainter.from_pretrained(name, device) for name in model]
    pictures = Pictures(data, models[0].image_size, count)
    print(*write_figures(models, pictures, out, protocol, samples, seed, vars(sampling), pred, run), sep="\n")
    return 0


@plainly
def masks(*, protocol: str, out: Annotated[Path, FOLDER], count: int = 1000, size: int = 256) -> int:
    """Write a published evaluation's masks, the same on every machine: OUT/00000.png ... and masks.json.

    Args:
        protocol: paper-centre, lama-thick, repaint-half, ...; a name that is none of them lists all.
        out: New folder for the masks, white where the hole is.
        count: How many.
        size: Pixels a side.

    """
    check_folder(out)
    from manifill.evaluate import protocols

    digest = protocols.write_masks(protocol, out, count, size)
    print(f"{out}: {count} masks of {size}x{size} pixels, digest {digest}")
    return 0
