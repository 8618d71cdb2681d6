"""`manifill train`, `manifill convert` and `manifill pack`: how models come about."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, make_dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from manifill.cli.extras import need
from manifill.cli.options import FOLDER, SamplingArguments, check_folder, from_fields, plainly
from manifill.cli.terminal import counted
from manifill.config import option, overrides
from manifill.train.config import TRAININGS, Overrides, RunOptions

MODELS = ("init_from", "weaker")  # options of a run that name a model
BEYOND = "ot in the paper"  # says the help of options that the paper does not have


@dataclass(frozen=True)
class Given:
    """What is trained on, and where it goes."""

    data: tuple[str, ...] = option(
        MISSING,
        "Folders of pictures, lists (.txt, .jsonl), .tar shards, patterns (train-{000..127}.tar), addresses of shards "
        "(https://..., extra [train]) or single files.",
    )
    out: Path = option(MISSING, "Folder of the run: checkpoints, metrics.jsonl and previews of each stage, OUT/model.")
    preset: str | None = option(
        None,
        "Sizes and settings: paper-256, faces-256, faces-128, small-128 (some hundred pictures, half an hour), "
        "faces-64 or tiny, or one of these + a variant: paper-256+centre, faces-64+attention-none; paper-256 where "
        "--steps or --minutes say for how long.",
    )
    val: tuple[str, ...] = option((), "Pictures to validate on; without it every 20th training picture is held out.")
    judge: Path | None = option(
        None,
        "Weights of LPIPS with AlexNet: the texture generator that is best by it on held-out pictures, at three kinds "
        "of holes, is kept, and the last one beside it in OUT/last.",
    )


class Work:
    """All stages or one, to be trained: what the command line said of it. A call does it.

    It is called once tyro is through, which takes an error in here for its own.
    """

    stages: ClassVar[tuple[str, ...]]
    given: Given
    training: Any
    run: Any
    beyond: Any

    def __call__(self) -> int:
        from manifill.train.presets import preset as find_preset

        options, g = RunOptions(**vars(self.training) | vars(self.run) | vars(self.beyond)), self.given
        check_folder(g.out)
        need("the report of a training", "matplotlib")
        if options.tensorboard:
            need("--tensorboard", "tensorboard")
        if g.preset is None and options.steps is None and options.minutes is None:
            raise ValueError(f"name a --preset: {suited(g.data)}")
        preset = g.preset or "paper-256"
        find_preset(preset)
        first = os.environ.get("RANK", "0") == "0"  # of several processes
        if options.minutes and first and (note := expectation(g.data, options.minutes)):
            print(note)
        from manifill.evaluate.judge import LPIPSJudge
        from manifill.hub import find_model
        from manifill.train.run import train as run_stages

        models = {name: find_model(said) for name in MODELS if (said := getattr(options, name))}
        judge = LPIPSJudge(g.judge) if g.judge else None
        run_stages(self.stages, g.data, g.out, preset, replace(options, **models), g.val, judge)
        if first:
            print(what_now(g.out, sys.argv[1:]))
        return 0


def listed(data: Sequence[str]) -> int:
    """Return how many pictures there are, 0 where shards elsewhere would have to be fetched to tell."""
    from manifill.data.sources import is_streamed, sources

    return 0 if any(map(is_streamed, data)) else len(sources(data))


def suited(data: Sequence[str]) -> str:
    """Return in words what the paper's preset costs, and which preset suits so many pictures."""
    count, words = listed(data), f"manifill train all --data {shlex.join(data)} --out OUT --preset"
    few = f"{words} small-128 --minutes 30 (half an hour: a sketch)"
    suit = few if 0 < count < 3000 else f"{words} faces-128 (some hours of a processor)"
    pictures = counted(count, "picture") if count else "shards"
    return f"paper-256 takes 1,000,000 steps of each stage, weeks of a GPU; {pictures} suit {suit}"


def expectation(data: Sequence[str], minutes: float) -> str:
    """Return in words what a short training cannot do, empty for a long one of many pictures."""
    from manifill.train.logs import in_minutes

    count = listed(data)
    if minutes >= 240 and not 0 < count < 3000:
        return ""
    pictures = counted(count, "picture") if count else "pictures"
    return (
        f"{pictures} for {in_minutes(minutes)} give a sketch at best, on a machine with nothing else to do: sky, walls "
        "and leaves are filled plausibly, faces, writing and objects are not; thousands of pictures of one kind and "
        "hours give more"
    )


def what_now(out: Path, words: Sequence[str]) -> str:
    """Return the command to try next after the training that `words` asked for."""
    from manifill.train.logs import read_log

    minutes = max(read_log(out, name).minutes_needed for name in TRAININGS)
    if minutes:
        given = re.sub(r" --minutes(=| )\S+", "", shlex.join(["manifill", *words]))
        return f"try now: {given} --minutes {minutes}"
    missing = [name for name in TRAININGS if not (out / "model" / f"{name}.safetensors").exists()]
    if missing:
        return f"try now: manifill train {missing[0]} with the same options"
    return f"try now: manifill inpaint PHOTO MASK -o OUT --model {shlex.quote(str(out / 'model'))}"


@plainly
def report(run: Positional[Path], /) -> Callable[[], int]:
    """Draw a run's curves and previews, finished or not, into one page, and say in plain words what is wrong with it.

    Args:
        run: Folder of the run, the --out of `manifill train`.

    """

    def work() -> int:
        need("the report of a training", "matplotlib")
        from manifill.train.report import write_report

        print(write_report(run))
        return 0

    return work  # called once tyro is through, as Work is


def subcommand(name: str, description: str, *stages: str) -> Any:
    """Return the subcommand that trains `stages`, with the options of their trainings."""
    training = overrides(*(TRAININGS[stage] for stage in stages))
    names = [f.name for f in fields(training)]
    beyond = [f.name for f in fields(training) if BEYOND in f.metadata["help"]]
    parts = {
        "given": from_fields(Given),
        "training": from_fields(training, "the preset's", without=beyond),
        "run": from_fields(RunOptions, without=[f.name for f in fields(Overrides)], models=MODELS),
        "beyond": from_fields(training, "the preset's", without=[name for name in names if name not in beyond]),
    }
    titles = {"given": "data", "beyond": "beyond-the-paper"}
    shown = [(key, Annotated[kind, OmitArgPrefixes, arg(name=titles.get(key, key))]) for key, kind in parts.items()]
    work = make_dataclass(name, shown, bases=(Work,), namespace={"stages": stages}, frozen=True)
    return Annotated[Any, tyro.conf.subcommand(name, description=f"{description}\n\n{SEVERAL}", constructor=work)]


SEVERAL = (
    "The same command resumes after an interruption, to the same weights. On several devices or machines (extra "
    "`train`): torchrun --nproc-per-node 8 -m manifill train ..., or accelerate launch -m manifill train ...; a batch "
    "is divided over them, the result is that of one device to rounding."
)
VERB = reduce(
    or_,
    [
        subcommand("all", "Train the three stages, one after another.", *TRAININGS),
        subcommand("vqvae", "Train the VQ-VAE alone.", "vqvae"),
        subcommand("structure", "Train the structure generator alone, on the VQ-VAE of OUT or INIT_FROM.", "structure"),
        subcommand("texture", "Train the texture generator alone, on the VQ-VAE of OUT or INIT_FROM.", "texture"),
        Annotated[Any, tyro.conf.subcommand("report", constructor=report)],
    ],
)


def train(work: Annotated[tyro.conf.OmitSubcommandPrefixes[VERB], arg(name="")]) -> int:  # type: ignore[valid-type]
    """Train all stages or one on your own pictures, or draw the report of a run."""
    return work()


@plainly
def convert(checkpoint: Positional[Path], /, *, out: Annotated[Path, FOLDER], image_size: int = 256) -> int:
    """Turn the authors' TensorFlow checkpoint into a model folder (needs the extra `convert`).

    Args:
        checkpoint: Folder with model.ckpt.index and its data file.
        out: New model folder.
        image_size: Side of the pictures it was trained on, the one thing a checkpoint does not say.

    """
    check_folder(out)
    from manifill.networks.convert import convert as run

    names = run(checkpoint, out, image_size)
    print(f"{out}: {', '.join(names)}")
    return 0


@plainly
def pack(
    model: Positional[Path],
    /,
    *,
    out: Annotated[Path, FOLDER],
    half: bool = False,
    sampling: OmitArgPrefixes[SamplingArguments] = SamplingArguments(),  # type: ignore[valid-type]  # noqa: B008
    subject: str | None = None,
    pictures: Path | None = None,
) -> int:
    """Copy a model folder for release: half the size, its own defaults for sampling, and what it knows.

    Args:
        model: A model folder.
        out: New model folder.
        half: Store structure, texture and discriminator in 16 bits; the VQ-VAE keeps 32, its codebooks are exact.
        sampling: The model's own sampling options.
        subject: What its pictures show, such as "faces" or "scenes"; needs `pictures`.
        pictures: Pictures to measure that by, which it was not trained on: a folder, list or shards, as for training.

    """
    check_folder(out)
    from manifill.networks.checkpoint import pack as run

    if (subject is None) != (pictures is None):
        raise ValueError("--subject and --pictures go together: what the pictures show, and the pictures")
    domain = None
    if subject is not None and pictures is not None:
        from manifill.evaluate.domain import measure_domain
        from manifill.inpainter import Inpainter

        domain = measure_domain(Inpainter.from_pretrained(model), pictures, subject)
        print(domain)
    run(model, out, half, vars(sampling), domain)
    print(out)
    return 0
