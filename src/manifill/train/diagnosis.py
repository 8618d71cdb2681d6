"""What is wrong with a run, in plain words, from its logged figures alone.

A loss that no longer falls and a stage that is not finished are not wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from manifill.config import ModelError
from manifill.train.logs import Log, in_minutes

EARLY, BLINDNESS_DUE = 0.03, 0.15  # fraction of a run before which nothing is said, and nothing of blindness
SHORT = 0.25  # of the preset's steps, below which all else that shows comes of that
MARGIN = 1.0  # dB by which the structure alone must beat the mean colour, or the picture's own structure another's
PERPLEXITY = 4.0  # of a codebook that has not collapsed
USED = 0.5  # fraction of the codes that should occur in the validation pictures
TEXTURE = 0.5  # dB that the texture codes should add
NOTHING = 0.95  # fraction of log2(K) bits above which a prior has learnt nothing
KNOWN = 0.8  # bits outside the hole, as a fraction of those inside, above which the condition is not used
APART = 0.5  # bits between held-out pictures and those seen in training
RISEN = 0.05  # bits above the best
WON, FAR = 0.1, 1.5  # hinge loss and distance of the scores of a discriminator that has won
BLIND, ALIKE = 0.95, 0.1  # hinge loss and distance of the scores of one that sees no difference
DIVERGED = 1.5  # loss, as a multiple of its lowest
REMEDY = "More pictures, flip, more dropout or a smaller structure network help; more steps do not."
QUARTER = 10 * math.log10(4)  # dB that a picture gains when only a quarter of it, the centre hole, can be wrong
LEVELS, SCORES = ("structure", "texture"), ("discriminator", "d_real", "d_composed")


@dataclass(frozen=True)
class Diagnosis:
    """Problems as name -> sentences; names of what was looked for and not found; what could not be looked for, why."""

    problems: dict[str, str]
    absent: list[str]
    unchecked: list[str]


# What can be wrong: each says it in words, or returns None; KeyError is for a figure that the log does not have.


def collapsed(level: str, log: Log) -> str | None:
    """Say when a codebook is in effect a handful of codes."""
    found = log.latest[f"val_{level}_perplexity"]
    if found >= PERPLEXITY:
        return None
    return (
        f"The {level} codebook has collapsed: perplexity {found:.1f}, as if it had so many codes; half of "
        f"{log.codes} or more is healthy. {revival(log)}"
    )


def unused(level: str, log: Log) -> str | None:
    """Say when many codes never occur, unless the validation pictures are too few to tell or it has collapsed."""
    size, found = log.codes, log.latest[f"val_{level}_codes_used"]
    held_out = log.settings.get("pictures", 0)
    held_out = max(1, held_out // 19) if isinstance(held_out, int) else 500  # unless named; they are not in the log
    side = log.settings.get("model", {}).get("image_size", 256) // (8 if level == "structure" else 4)
    possible = size * (1 - math.exp(-min(held_out, 500) * side * side / size))  # codes that an even use would show
    if found >= USED * possible or log.latest[f"val_{level}_perplexity"] < PERPLEXITY:
        return None
    return (
        f"Codes are unused: {found:.0f} of {size} {level} codes occur in the validation pictures; more than "
        f"{USED * possible:.0f} is healthy. {revival(log)}"
    )


def revival(log: Log) -> str:
    """Return what helps against dead codes that this run has not done yet."""
    if log.training.get("revive"):
        return "Start anew with a lower learning rate, more varied pictures or a smaller codebook."
    return "Start anew with revival of dead codes (revive, on in faces-128 and small-128)."


def empty(figures: Mapping[str, float], prefix: str = "") -> bool:
    """Return whether the structure codes of a VQ-VAE with these figures carry nothing.

    Alone they decode to no more than a grey card, and other ones in their place cost nothing. The paper's decoder never
    sees zero texture, so that it may decode the structure alone badly though it needs it.
    """
    alone, grey, both = (figures[f"{prefix}psnr{key}"] for key in ("_structure", "_mean_colour", ""))
    return alone < grey + MARGIN and both < figures.get(f"{prefix}psnr_swapped", both) + MARGIN


def structure_empty(log: Log) -> str | None:
    """Say when the structure codes carry nothing."""
    found, grey = log.latest["val_psnr_structure"], log.latest["val_psnr_mean_colour"]
    if not empty(log.latest, "val_"):
        return None
    share = log.training.get("structure_only", 0)
    return (
        f"The structure codes carry nothing: alone they decode to {found:.1f} dB, and each picture's mean colour "
        f"gives {grey:.1f} dB; several dB above it is healthy. Train longer, or decode a larger fraction of each batch "
        f"without texture codes (structure_only, here {share}; 0.25 in faces-128)."
    )


def texture_empty(log: Log) -> str | None:
    """Say when a picture decodes no better with texture codes than without."""
    both, alone = log.latest["val_psnr"], log.latest["val_psnr_structure"]
    if both >= alone + TEXTURE:
        return None
    return (
        f"The texture codes carry nothing: pictures decode to {both:.1f} dB with them and to {alone:.1f} dB without; "
        "2 dB more is healthy. Train longer, or decode a smaller fraction of each batch without them (structure_only, "
        f"here {log.training.get('structure_only', 0)})."
    )


def learnt_nothing(log: Log) -> str | None:
    """Say when a prior guesses, on pictures it was trained on too: one that memorises has learnt something."""
    guess, found = math.log2(log.codes), log.latest["val_bits_hole"]
    if min(found, log.latest.get("val_seen_bits_hole", found)) < NOTHING * guess:
        return None
    return (
        f"The prior has learnt nothing: {found:.2f} bits a code inside the hole of held-out pictures, and a blind "
        f"guess takes {guess:.2f}; two thirds of that or less is healthy. Train longer, or with another learning rate "
        f"(here {log.training.get('learning_rate')}), and see that the VQ-VAE is sound."
    )


def condition_unused(log: Log) -> str | None:
    """Say when the codes that can be read off the picture are no easier than those that cannot."""
    known, hole = log.latest["val_bits_known"], log.latest["val_bits_hole"]
    if known <= KNOWN * hole or log.training.get("known_weight", 1) == 0:
        return None
    return (
        f"The prior does not look at the picture: {known:.2f} bits a code where it is known and {hole:.2f} inside the "
        "hole; less than half of that is healthy where it is known. Train longer, or with condition_features "
        "(on in faces-128 and small-128)."
    )


def memorising(log: Log) -> str | None:
    """Say when pictures seen in training have become much easier than held-out ones, at the same holes."""
    points = log.series("val_bits_hole", "val_seen_bits_hole")
    gaps = [held - seen for _, held, seen in points]
    sets_differ = gaps and gaps[-1] < min(2 * APART, min(gaps) + APART / 2)  # a little, and did from the start
    if not gaps or gaps[-1] < APART or sets_differ:
        return None
    step, held, seen = points[-1]
    falling = held <= min(p[1] for p in points)
    worse = "The held-out ones still fall, so it does no harm yet. " if falling else ""
    return (
        f"The prior memorises its pictures: {seen:.2f} bits a code inside the hole of pictures it was trained on, "
        f"{held:.2f} of held-out ones; they were {min(gaps):.2f} apart at their closest and are {gaps[-1]:.2f} apart "
        f"at step {step:.0f}; less than {APART} is healthy (more, if they are of another kind). {worse}{REMEDY}"
    )


def risen(log: Log) -> str | None:
    """Say when the figure that the prior is chosen by has been getting worse, twice at least.

    A taught one is chosen by another, and leaves the true codes' distribution on purpose.
    """
    if log.training.get("autoguidance"):
        return None
    points = log.series("val_bits_hole")
    step, best = min(points, key=lambda p: p[1])
    if len(points) < 3 or any(bits < best + RISEN for _, bits in points[-2:]):
        return None
    return (
        f"The prior gets worse on held-out pictures: {points[-1][1]:.2f} bits a code inside the hole at step "
        f"{points[-1][0]:.0f}, {best:.2f} at step {step:.0f}; it should fall or stay. The model that is kept is that "
        f"of step {step:.0f}, so nothing is lost but time. {REMEDY}"
    )


def discriminator_won(log: Log) -> str | None:
    """Say when the discriminator is never wrong and teaches nothing any more."""
    loss, real, composed = log.stretch(0.1, *SCORES)
    if not (loss < WON and real - composed > FAR):
        return None
    return (
        f"The discriminator has won: its hinge loss is {loss:.2f}, its scores {real:.2f} for photos and "
        f"{composed:.2f} for completions; 0.3 to 0.9 is healthy, with scores that overlap. Lower discriminator_rate "
        f"(here {log.training.get('discriminator_rate')})."
    )


def discriminator_blind(log: Log) -> str | None:
    """Say when the discriminator has not told photos from completions over the latest fifth of the steps."""
    loss, real, composed = log.stretch(0.2, *SCORES)
    sees = not (loss > BLIND and abs(real - composed) < ALIKE)
    if sees or log.training.get("adversarial_weight", 1) == 0:
        return None
    norm = log.training.get("discriminator_norm", "spectral")
    share = log.training.get("adversarial_ratio", 0.0)
    remedy = "Train longer, on more pictures."
    if norm != "none" or share < 1:
        remedy = f"Set discriminator_norm to none (here {norm}) with an adversarial_ratio of 1 (here {share})."
    return (
        f"The discriminator is blind: its hinge loss has stayed at {loss:.3f}, its scores at {real:.2f} for photos and "
        f"{composed:.2f} for completions; 0.3 to 0.9 is healthy, and a blind guess costs 1. The adversarial loss adds "
        f"next to nothing, and textures stay smooth. {remedy}"
    )


def washed_out(log: Log) -> str | None:
    """Say when holes are filled no better than with one colour, though the true structure codes are given."""
    found, grey = log.latest["val_psnr"] - QUARTER, log.latest["vqvae_val_psnr_mean_colour"]
    if found >= grey + MARGIN:
        return None
    adversary = "adversarial_ratio" if log.training.get("adversarial_ratio") else "adversarial_weight"
    return (
        f"The holes are filled with grey: {found:.1f} dB inside, no better than one mean colour ({grey:.1f} dB), with "
        "the true structure codes given; several dB above it is healthy. Train longer, with a larger l1_weight (here "
        f"{log.training.get('l1_weight')}) or a smaller {adversary} (here {log.training.get(adversary)})."
    )


def diverging(key: str, log: Log) -> str | None:
    """Say when a training loss is far above what it was before: medians over tenths of the lines."""
    values = [value for _, value in log.series(key)]
    length = max(3, len(values) // 10)
    medians = [median(values[k : k + length]) for k in range(len(values) % length, len(values), length)]
    if len(medians) < 2 or min(medians) <= 0 or medians[-1] < DIVERGED * min(medians):
        return None
    return (
        f"The training diverges: {key} is {medians[-1]:.3g} and was {min(medians):.3g}; it should fall or stay. "
        f"Start anew with a lower learning rate (here {log.training.get('learning_rate')})."
    )


CHECKS: dict[str, dict[str, Callable[[Log], str | None]]] = {
    "vqvae": {
        **{f"{level} codebook collapsed": partial(collapsed, level) for level in LEVELS},
        **{f"{level} codes unused": partial(unused, level) for level in LEVELS},
        "structure empty": structure_empty,
        "texture codes empty": texture_empty,
        "training diverging": partial(diverging, "reconstruction"),
    },
    "structure": {
        "prior learnt nothing": learnt_nothing,
        "condition unused": condition_unused,
        "prior memorising": memorising,
        "prior getting worse on held-out pictures": risen,
        "training diverging": partial(diverging, "bits"),
    },
    "texture": {
        "discriminator won": discriminator_won,
        "discriminator blind": discriminator_blind,
        "holes grey": washed_out,
        "training diverging": partial(diverging, "l1"),
    },
}


def diagnose(stage: str, log: Log) -> Diagnosis:
    """Look for everything that can be wrong with a stage, by its name; without its settings nothing is looked for."""
    if not log.settings:
        return Diagnosis({}, [], ["everything: config.json, the stage's settings, is missing"])
    found = Diagnosis({}, [], [])
    if log.minutes_needed:
        found.problems["too short"] = (
            f"It stopped after {log.taken} of about {log.settings['usual_steps']:,} steps. Give it "
            f"{in_minutes(log.minutes_needed)}: the same command with --minutes {log.minutes_needed} goes on."
        )
        if log.taken < SHORT * log.settings["usual_steps"]:
            found.unchecked.extend(f"{name}: the training was too short" for name in CHECKS[stage])
            return found
    for name, check in CHECKS[stage].items():
        if log.early(BLINDNESS_DUE if check is discriminator_blind else EARLY):
            found.unchecked.append(f"{name}: too early to tell after {log.taken} steps")
            continue
        try:
            words = check(log)
        except KeyError as figure:
            found.unchecked.append(f"{name}: {missing(figure.args[0])}")
            continue
        if words:
            found.problems[name] = words
        else:
            found.absent.append(name)
    return found


def missing(figure: str) -> str:
    """Return in words that a figure is not in the log."""
    if figure == "val_seen_bits_hole":
        return "no bits on pictures seen in training are logged (streamed ones are not measured again)"
    return f"{figure} is not known".replace("vqvae_val_", "the VQ-VAE's ")


def vqvae_problems(figures: Mapping[str, float]) -> list[str]:
    """Return in words what is wrong with a VQ-VAE of these figures: empty structure codes, a collapsed codebook."""
    problems = []
    if empty(figures):
        problems.append(
            f"its structure codes alone decode to {figures['psnr_structure']:.1f} dB, no better than each "
            f"picture's mean colour ({figures['psnr_mean_colour']:.1f} dB), and those of another picture in their "
            "place cost nothing: they carry nothing"
        )
    for level in LEVELS:
        if figures[f"{level}_perplexity"] < PERPLEXITY:
            problems.append(
                f"its {level} codebook has collapsed: {figures[f'{level}_codes_used']} codes used, "
                f"perplexity {figures[f'{level}_perplexity']:.1f}"
            )
    return problems


def check_vqvae(figures: Mapping[str, float], path: Path, force: bool) -> None:
    """Refuse to build on the VQ-VAE in a file when it has problems, unless forced. Raises ModelError."""
    problems = vqvae_problems(figures)
    if not problems:
        return
    message = f"{path}: " + "; ".join(problems)
    if not force:
        raise ModelError(f"{message}. Train the VQ-VAE longer or with structure_only, or force with --force")
    print(f"forced: {message}")
