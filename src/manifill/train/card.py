"""The model card of a run: what was trained, on what, by which commands, and how well."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifill.config import to_dict
from manifill.hub import PLACE, UNNAMED, front, licence
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import NETWORKS, Header, model_hash, parameters, read_header
from manifill.train.config import RunOptions
from manifill.train.presets import preset as preset_named
from manifill.train.settings import saved_settings

TITLES = {"vqvae": "Hierarchical VQ-VAE", "structure": "Structure generator", "texture": "Texture generator"}
BY_HAND = "<!-- What follows is written by hand; `manifill train` keeps it. -->"
LIMITS = "## Limits\n\nTo be filled in: what it completes badly, whom or what its pictures do not show.\n"


def write_card(out: Path, preset: str, data: Sequence[str], val: Sequence[str] | None = None) -> None:
    """Write `out`/model/README.md from the networks there and their settings; `data` names the pictures.

    `val` names those held out, () every 20th of the others, None: not known. The licence of a card that is there
    already, and what follows BY_HAND in it, are kept.
    """
    folder = out / "model"
    path = folder / "README.md"
    headers = {n: read_header(folder, n) for n in NETWORKS if (folder / f"{n}.safetensors").exists()}
    lines = [*about(folder, preset, headers), *use(), *pictures(out, data), *training(val)]
    given = ["--data", *map(shlex.quote, data), *(["--val", *map(shlex.quote, val)] if val else [])]
    for name in (n for n in headers if n in TITLES):
        lines += section(out, name, headers[name], preset, given)
    text = "\n".join([*lines, BY_HAND, "", LIMITS])
    text = kept(text, path.read_text(encoding="utf-8")) if path.exists() else text
    write_atomic(path, lambda f: f.write(text.encode()))


def kept(card: str, before: str) -> str:
    """Return a new card with the licence of the one before and what was written by hand below it."""
    if BY_HAND in before:
        card = card.partition(BY_HAND)[0] + BY_HAND + before.partition(BY_HAND)[2]
    if licence(before) in (None, UNNAMED):
        return card
    lines = "\n".join(re.findall(r"^license.*$", front(before), re.MULTILINE))  # with license_name and license_link
    return card.replace(f"license: {UNNAMED}", lines, 1)


def about(folder: Path, preset: str, headers: dict[str, Header]) -> list[str]:
    """Return the head that the hub reads, and what the model is."""
    size = next(iter(headers.values())).image_size
    count = sum(parameters(header) for header in headers.values()) / 1e6
    tags = ["image-inpainting", "diverse-inpainting", "vq-vae", "pixelcnn", "pytorch"]
    return [
        "---",
        f"license: {UNNAMED}",
        "library_name: manifill",
        "pipeline_tag: image-to-image",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# A manifill model, preset {preset}",
        "",
        f"Weights {model_hash(folder)}. Completes holes in photos in many ways, in squares of {size}x{size} pixels, by",
        "[Generating Diverse Structure for Image Inpainting With Hierarchical VQ-VAE](https://arxiv.org/abs/2103.10022):",
        "a hierarchical VQ-VAE, a structure generator that draws codes for the hole, and a texture generator that",
        f"paints them. {count:.1f} million parameters in all.",
        "",
        "The licence of these weights follows that of the pictures: name it in the first lines of this file, or when",
        "you publish it (`manifill push --license`).",
        "",
    ]


def use() -> list[str]:
    """Return how others use the model."""
    return [
        "## Use",
        "",
        "```python",
        "from manifill import Inpainter  # pip install 'manifill[hub]'",
        "",
        f'inpainter = Inpainter.from_pretrained("{PLACE}")',
        'for completion in inpainter("photo.png", "mask.png", num_samples=8, seed=0):',
        '    completion.image.save(f"completion_{completion.seed}.png")',
        "```",
        "",
        f"    manifill inpaint PHOTO MASK -n 8 -o OUT --model {PLACE}",
        "",
        "White is the hole. Pixels outside it stay the photo's own, bit for bit.",
        "",
    ]


def pictures(out: Path, data: Sequence[str]) -> list[str]:
    """Return what the run was trained on; a stage that saw other pictures is listed by itself."""
    found: dict[str, list[str]] = {}
    for name in TITLES:
        used = saved_settings(out, name)
        if used:
            digests = {"listing": used.get("listing_digest"), "pixels": used.get("pictures_digest")}
            named = ", ".join(f"{k} {v}" for k, v in digests.items() if v)
            count = used["pictures"] if isinstance(used["pictures"], str) else f"{used['pictures']:,}"
            found.setdefault(f"{count} pictures ({named or 'no digest'}), crop {used['crop']}", []).append(name)
    several = len(found) > 1
    lines = [f"- {seen}{': ' + ', '.join(names) if several else ''}" for seen, names in found.items()]
    unreadable = out / "unreadable.txt"
    if unreadable.exists() and (names := unreadable.read_text(encoding="utf-8").splitlines()):
        lines.append(f"- of these, {len(names)} could not be read and were left out")
    source = f"From {', '.join(data)}; the figures below are of pictures held out of the training."
    return ["## Training data", "", source, "", *lines, ""]


def training(val: Sequence[str] | None) -> list[str]:
    """Return what is to be known of all stages' commands."""
    unknown = "`--limit`" if val is not None else "`--limit` and `--val`"
    return [
        "## Training",
        "",
        f"RUN is a folder. Where {unknown} chose among the pictures, that is not recorded here: the counts and digests",
        "above say which they were. WEIGHTS-x stands for a model whose weights are called x.",
        "",
    ]


def section(out: Path, name: str, header: Header, preset: str, given: list[str]) -> list[str]:
    """Return the lines on one network: the command that trained it, and its figures on held-out pictures."""
    lines = [f"### {TITLES[name]}", ""]
    used = saved_settings(out, name)
    if used:
        options, rest = command(name, used, preset)
        flags = [*given, "--out", "RUN", "--preset", preset, *options]
        lines += [f"    manifill train {name} {' '.join(flags)}", ""]
        lines += [f"Besides, not as in the preset: {'; '.join(rest)}.", ""] if rest else []
    else:
        lines += ["Not trained in this run: taken over from the model it started from.", ""]
    if not header.figures:
        return lines
    lines += [f"Step {header.step}, on held-out pictures:", "", "| figure | value |", "| --- | --- |"]
    return [*lines, *(f"| {k} | {v:.4g} |" for k, v in header.figures.items()), ""]


def command(name: str, used: dict[str, Any], preset: str) -> tuple[list[str], list[str]]:
    """Return (options, words): how a stage's settings differ from its preset, as far as options can say it."""
    wanted = preset_named(preset)
    options: list[str] = []
    before = flat({"model": to_dict(wanted.model), **to_dict(getattr(wanted, name))})
    before |= {key: getattr(RunOptions(), key) for key in ("seed", "precision", "crop")}
    now = flat({"model": used["model"], **used["training"]}) | {key: used[key] for key in ("seed", "precision", "crop")}
    changed = {key: value for key, value in now.items() if value != before.get(key)}
    known = {field.name for field in dataclasses.fields(RunOptions)}
    for key in (k for k in changed if k in known):
        options += as_words(key, changed[key])
    rest = [f"{key} {changed[key]} (the preset: {before.get(key)})" for key in changed if key not in known]
    for name in ("init_from", "weaker"):
        options += [flag(name), f"WEIGHTS-{used[name]}"] if used.get(name) else []
    options += [flag("mask_files"), f"MASKS-{used['mask_files']}"] if used.get("mask_files") else []
    options += [flag("perceptual"), shlex.quote(used["perceptual"])] if used.get("perceptual") else []
    return options, rest


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings in one dict, with dotted names and lists for tuples."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": listed(value)}
    return found


def listed(value: Any) -> Any:
    """Return a tuple as JSON keeps it."""
    return list(value) if isinstance(value, tuple) else value


def as_words(key: str, value: Any) -> list[str]:
    """Return an option with its value as the command line takes it."""
    if isinstance(value, bool):
        return [flag(key if value else f"no_{key}")]
    return [flag(key), *map(str, value if isinstance(value, list) else [value])]


def flag(key: str) -> str:
    """Return a setting's name on the command line."""
    return "--" + key.replace("_", "-")
