"""`manifill train`, `manifill convert` and `manifill pack`: how models come about."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce, wraps
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from manifill.cli.options import SamplingArguments


def stages(
    stage: str,
    /,
    *,
    data: tuple[str, ...],
    out: Path,
    preset: str = "paper-256",
    val: tuple[str, ...] = (),
    crop: Literal["centre", "random", "jitter", "squeeze"] = "centre",
    workers: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    start: Literal["auto", "random", "data"] | None = None,
    autoguidance: float | None = None,
    discriminator_norm: Literal["spectral", "none"] | None = None,
    adversarial_share: float | None = None,
    perturb: float | None = None,
    drawn: float | None = None,
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto",
    accumulate: int = 1,
    compile: bool = False,
    limit: int | None = None,
    init_from: str | None = None,
    weaker: str | None = None,
    perceptual: Path | None = None,
    judge: Path | None = None,
    force: bool = False,
    log_every: int = 50,
    validate_every: int = 500,
    checkpoint_every: int = 250,
    quiet: bool = False,
    tensorboard: bool = False,
) -> int:
    """Train all stages or one; the same command resumes after an interruption, to the same weights.

    On several devices or machines (extra `train`): torchrun --nproc-per-node 8 -m manifill train ..., or accelerate
    launch -m manifill train ...; a batch is divided over them, the result is that of one device to rounding.

    Args:
        stage: all, or one of vqvae, structure and texture; the last two need the first in OUT/model or INIT_FROM.
        data: Folders of pictures, lists (.txt, .jsonl), .tar shards, patterns (train-{000..127}.tar), addresses of
            shards (https://..., extra [train]) or single files.
        out: Folder of the run: checkpoints, metrics.jsonl and previews of each stage, and OUT/model.
        preset: Sizes and settings: paper-256, faces-256, faces-128, small-128 (some hundred pictures, half an hour),
            faces-64 or tiny, or one of these + an ablation, as in faces-64+attention-none.
        val: Pictures to validate on; without it every 20th training picture is held out.
        crop: The largest centred square, scaled; a random window, not scaled (the paper's Places2 and ImageNet); a
            random window of 256 after scaling to 266 (jitter: the paper's CelebA-HQ); or everything squeezed.
        workers: Threads that decode, where pictures are not held in memory.
        seed: Seed of the weights, the order of the data and the masks.
        steps: Optimiser steps of each stage, in place of the preset's.
        minutes: Time for all stages together, in place of steps; how many fit is found out as each stage begins.
        batch_size: Pictures a step, in place of the preset's.
        learning_rate: In place of the preset's.
        start: Where the codebooks begin, in place of the preset's; not in the paper, as the next five.
        autoguidance: Train the structure generator of INIT_FROM to draw as it does when that of WEAKER guides it with
            this weight, which makes structures more coherent; 1 is usual.
        discriminator_norm: Spectral normalisation of the discriminator (the paper) or none, with which it soon sees.
        adversarial_share: Length of the adversarial gradient at each picture, as a multiple of all others', in place of
            a fixed weight; 0.5 to 1.5 without spectral normalisation.
        perturb: Share of the hole's codes that the texture generator gets replaced by near ones; 0.1 is usual.
        drawn: Share of pictures for the texture generator with codes drawn by the structure generator of OUT/model or
            INIT_FROM, so that it learns to paint what it will be given; 0.5, with a discriminator that sees.
        precision: bf16 or fp16 autocast, or fp32; auto goes on as the stage was started, or begins in bf16 where the
            processor multiplies that faster and in fp32 where it does not.
        accumulate: Take each batch in so many parts one after another, for less memory and the same result.
        compile: Pass the trained networks through torch.compile.
        limit: Use the first pictures alone.
        init_from: Start from the weights of this model: a name, a folder or USER/REPO. With all, its VQ-VAE is kept
            where it serves the new pictures, and what is trained on top of another VQ-VAE is carried into its codes.
        weaker: A model on the same VQ-VAE whose structure generator is worse, such as an earlier one of the same
            training, for autoguidance: a name, a folder or USER/REPO.
        perceptual: TorchScript feature network of the ablation losses-perceptual.
        judge: Weights of LPIPS with AlexNet: the texture generator that is best by it on held-out pictures, at three
            kinds of holes, is kept, and the last one beside it in OUT/last.
        force: Go on with a VQ-VAE that carries nothing or has collapsed.
        log_every: Steps between lines of metrics.jsonl; each checkpoint adds one.
        validate_every: Steps between validation figures, previews and exports.
        checkpoint_every: Steps between checkpoints.
        quiet: No progress bar.
        tensorboard: Write RUN/STAGE/tensorboard too (extra `tensorboard`).

    """
    from manifill.evaluate.judge import LPIPSJudge
    from manifill.inpainter import find_model
    from manifill.train.run import STAGES
    from manifill.train.run import train as run_stages
    from manifill.train.settings import RunOptions

    first, second = (None if name is None else find_model(name) for name in (init_from, weaker))
    options = RunOptions(
        seed=seed,
        steps=steps,
        minutes=minutes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        start=start,
        autoguidance=autoguidance,
        discriminator_norm=discriminator_norm,
        adversarial_share=adversarial_share,
        perturb=perturb,
        drawn=drawn,
        precision=precision,
        accumulate=accumulate,
        compile=compile,
        limit=limit,
        crop=crop,
        workers=workers,
        init_from=first,
        weaker=second,
        perceptual=perceptual,
        force=force,
        log_every=log_every,
        validate_every=validate_every,
        checkpoint_every=checkpoint_every,
        quiet=quiet,
        tensorboard=tensorboard,
    )
    by = LPIPSJudge(judge) if judge else None
    run_stages(STAGES if stage == "all" else (stage,), data, out, preset, options, val, by)
    return 0


def report(run: Positional[Path], /) -> int:
    """Draw a run's curves and previews, finished or not, into one page, and say in plain words what is wrong with it.

    Args:
        run: Folder of the run, the --out of `manifill train`.

    """
    from manifill.train.report import write

    print(write(run))
    return 0


def later(verb: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return what reads a verb's arguments and leaves the work for later: tyro takes an error in here for its own."""

    @wraps(verb)
    def bound(*given: Any, **options: Any) -> Callable[[], int]:
        return partial(verb, *given, **options)

    return bound


STAGES = {
    "all": "Train the three stages, one after another.",
    "vqvae": "Train the VQ-VAE alone.",
    "structure": "Train the structure generator alone.",
    "texture": "Train the texture generator alone.",
}
VERB = reduce(
    or_,
    [
        *(
            Annotated[Any, tyro.conf.subcommand(name, description=said, constructor=partial(later(stages), name))]
            for name, said in STAGES.items()
        ),
        Annotated[Any, tyro.conf.subcommand("report", constructor=later(report))],
    ],
)


def train(work: tyro.conf.OmitSubcommandPrefixes[VERB]) -> int:  # type: ignore[valid-type]
    """Train all stages or one on your own pictures, or draw the report of a run."""
    return work()


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
    from manifill.networks.checkpoint import pack as run

    if (subject is None) != (pictures is None):
        raise ValueError("--subject and --pictures go together: what the pictures show, and the pictures")
    domain = None
    if subject is not None and pictures is not None:
        from manifill.evaluate.domain import measure
        from manifill.inpainter import Inpainter

        domain = measure(Inpainter.from_pretrained(model), pictures, subject)
        print(domain)
    run(model, out, half, vars(sampling), domain)
    print(out)
    return 0
