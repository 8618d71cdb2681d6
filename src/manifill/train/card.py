"""The model card of a run: what was trained, on what, by which commands, and how well."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifill.config import to_dict
from manifill.data.unreadable import unreadable_in
from manifill.hub import PLACE, UNNAMED, front, licence
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import Header, model_hash, parameters, present, read_header
from manifill.train.config import RunOptions
from manifill.train.page import TEMPLATES, rendered
from manifill.train.presets import preset as preset_named
from manifill.train.settings import flat, saved_settings

TITLES = {"vqvae": "Hierarchical VQ-VAE", "structure": "Structure generator", "texture": "Texture generator"}
BY_HAND = "<!-- What follows is written by hand; `manifill train` keeps it. -->"


def write_card(out: Path, preset: str, data: Sequence[str], val: Sequence[str] | None = None) -> None:
    """Write `out`/model/README.md from the networks there and their settings; `data` names the pictures.

    `val` names those held out, () every 20th of the others, None: not known. The licence of a card that is there
    already, and what follows BY_HAND in it, are kept.
    """
    folder = out / "model"
    path = folder / "README.md"
    headers = {n: read_header(folder, n) for n in present(folder)}
    given = ["--data", *map(shlex.quote, data), *(["--val", *map(shlex.quote, val)] if val else [])]
    values = {
        "unnamed": UNNAMED,
        "place": PLACE,
        "by_hand": BY_HAND,
        "preset": preset,
        "weights": model_hash(folder),
        "size": next(iter(headers.values())).image_size,
        "millions": sum(parameters(header) for header in headers.values()) / 1e6,
        "data": data,
        "pictures": pictures(out),
        "unknown": "`--limit`" if val is not None else "`--limit` and `--val`",
        "networks": [network_section(out, n, headers[n], preset, given) for n in headers if n in TITLES],
    }
    text = rendered(TEMPLATES / "card.md", values)
    text = kept(text, path.read_text(encoding="utf-8")) if path.exists() else text
    write_atomic(path, text)


def kept(card: str, before: str) -> str:
    """Return a new card with the licence of the one before and what was written by hand below it."""
    if BY_HAND in before:
        card = card.partition(BY_HAND)[0] + BY_HAND + before.partition(BY_HAND)[2]
    if licence(before) in (None, UNNAMED):
        return card
    lines = "\n".join(re.findall(r"^license.*$", front(before), re.MULTILINE))  # with license_name and license_link
    return card.replace(f"license: {UNNAMED}", lines, 1)


def pictures(out: Path) -> list[str]:
    """Return what the run was trained on; a stage that saw other pictures is listed by itself."""
    found: dict[str, list[str]] = {}
    for name in TITLES:
        if used := saved_settings(out, name):
            digests = {"listing": used.get("listing_digest"), "pixels": used.get("pictures_digest")}
            named = ", ".join(f"{k} {v}" for k, v in digests.items() if v)
            count = used["pictures"] if isinstance(used["pictures"], str) else f"{used['pictures']:,}"
            found.setdefault(f"{count} pictures ({named or 'no digest'}), crop {used['crop']}", []).append(name)
    lines = [f"{seen}: {', '.join(names)}" for seen, names in found.items()] if len(found) > 1 else list(found)
    if count := len(unreadable_in(out)):
        lines.append(f"of these, {count} could not be read and were left out")
    return lines


def network_section(out: Path, name: str, header: Header, preset: str, given: list[str]) -> dict[str, Any]:
    """Return what the card says of one network: the command that trained it, and its figures on held-out pictures."""
    found = {"title": TITLES[name], "step": header.step, "figures": header.figures, "command": "", "rest": []}
    if used := saved_settings(out, name):
        options, rest = command(name, used, preset)
        words = ["manifill", "train", name, *given, "--out", "RUN", "--preset", preset, *options]
        found |= {"command": " ".join(words), "rest": rest}
    return found


def command(name: str, used: dict[str, Any], preset: str) -> tuple[list[str], list[str]]:
    """Return (options, words): how a stage's settings differ from its preset, as far as options can say it."""
    wanted, of_run = preset_named(preset), ("seed", "precision", "crop")
    before = flat({"model": to_dict(wanted.model), **to_dict(getattr(wanted, name))})
    before |= {key: getattr(RunOptions(), key) for key in of_run}
    now = flat({"model": used["model"], **used["training"], **{key: used[key] for key in of_run}})
    changed = {key: value for key, value in now.items() if value != before.get(key)}
    known = {field.name for field in dataclasses.fields(RunOptions)}
    rest = [f"{key} {value} (the preset: {before.get(key)})" for key, value in changed.items() if key not in known]
    options = {key: value for key, value in changed.items() if key in known}
    options |= {key: f"WEIGHTS-{used[key]}" for key in ("init_from", "weaker") if used.get(key)}
    options |= {"mask_files": f"MASKS-{used['mask_files']}"} if used.get("mask_files") else {}
    options |= {"perceptual": shlex.quote(used["perceptual"])} if used.get("perceptual") else {}
    return [word for key, value in options.items() for word in as_words(key, value)], rest


def as_words(key: str, value: Any) -> list[str]:
    """Return an option with its value as the command line takes it."""
    flag = "--" + (f"no_{key}" if value is False else key).replace("_", "-")
    if isinstance(value, bool):
        return [flag]
    return [flag, *map(str, value if isinstance(value, list) else [value])]
