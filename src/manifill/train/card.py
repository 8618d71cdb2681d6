"""The model card of a run: what was trained, on what, by which commands, and how well."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifill.config import to_dict
from manifill.hub import PLACE, UNNAMED, front, licence
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import Header, model_hash, parameters, present, read_header
from manifill.train.config import RunOptions
from manifill.train.page import TEMPLATES, rendered
from manifill.train.presets import preset as preset_named
from manifill.train.settings import saved_settings

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
        used = saved_settings(out, name)
        if used:
            digests = {"listing": used.get("listing_digest"), "pixels": used.get("pictures_digest")}
            named = ", ".join(f"{k} {v}" for k, v in digests.items() if v)
            count = used["pictures"] if isinstance(used["pictures"], str) else f"{used['pictures']:,}"
            found.setdefault(f"{count} pictures ({named or 'no digest'}), crop {used['crop']}", []).append(name)
    several = len(found) > 1
    lines = [f"{seen}{': ' + ', '.join(names) if several else ''}" for seen, names in found.items()]
    unreadable = out / "unreadable.txt"
    if unreadable.exists() and (names := unreadable.read_text(encoding="utf-8").splitlines()):
        lines.append(f"of these, {len(names)} could not be read and were left out")
    return lines


def network_section(out: Path, name: str, header: Header, preset: str, given: list[str]) -> dict[str, Any]:
    """Return what the card says of one network: the command that trained it, and its figures on held-out pictures."""
    used = saved_settings(out, name)
    options, rest = command(name, used, preset) if used else ([], [])
    words = ["manifill", "train", name, *given, "--out", "RUN", "--preset", preset, *options]
    trained = {"command": " ".join(words) if used else "", "rest": rest}
    return {"title": TITLES[name], "step": header.step, "figures": header.figures, **trained}


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


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
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
