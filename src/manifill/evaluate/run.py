"""`manifill evaluate`: pictures, masks and methods in; scores, figures and a report out."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from manifill.completion import Choice, KnownCodes
from manifill.config import Fit, Sampling
from manifill.data.pictures import Pictures
from manifill.evaluate import protocols, report, table
from manifill.evaluate.features import FeatureNetwork, Perceptual
from manifill.evaluate.methods import Classical, Folder, Method, ModelMethod, Picking, TrueCodes
from manifill.evaluate.scores import Scores, Task, figures, merge, notes
from manifill.files.pairs import shard_of
from manifill.inpainter import Inpainter
from manifill.networks.atomic import write_atomic

CURVE = ((1.0, 1.0), (0.9, 1.0), (0.8, 1.0), (0.7, 1.0), (0.9, 0.9), (0.8, 0.8), (0.6, 0.6))  # temperature, top-p
CURVE_PICTURES = 100


def task(
    pictures: Pictures,
    protocol: str,
    networks: Sequence[FeatureNetwork],
    perceptual: Sequence[Perceptual],
    masks: Path | None = None,
    shard: str = "0/1",
) -> Task:
    """Return what all methods have to do: the holes are a protocol's, or of a folder that `manifill masks` wrote."""
    size, count = pictures.size, len(pictures)
    holes: Callable[[int], np.ndarray] = partial(protocols.mask, protocol, size=size)
    if masks is not None:
        written, facts = protocols.read_masks(masks)
        if len(written) < count or written.shape[1:] != (size, size):
            raise ValueError(
                f"{masks}: {len(written)} masks of {written.shape[2]}x{written.shape[1]} pixels; "
                f"expected {count} of {size}x{size}"
            )
        protocol, digest, holes = facts["protocol"], f"{facts['digest']} of {len(written)}", written.__getitem__
    else:
        digest = f"{protocols.digest(protocol, count, size)} of {count}"
    about = {  # what every result states: what was evaluated, and with what
        "date": str(datetime.date.today()),
        "protocol": protocol,
        "pictures": count,
        "size": size,
        "pictures_digest": pictures.digest,
        "masks_digest": digest,
        "versions": {name: version(name) for name in ("manifill", "torch", "numpy")},
    }
    return Task(pictures, holes, networks, perceptual, about, shard_of(shard))


def curve(task: Task, method: ModelMethod) -> list[dict[str, float]]:
    """Return the figures of the first pictures, two samples each, over temperatures and top-p."""
    count, points = min(CURVE_PICTURES, len(task.pictures)), []
    part = replace(task, about=task.about | {"pictures": count})
    for temperature, top_p in CURVE:
        options = replace(method.options, temperature=temperature, top_p=top_p)
        other = replace(method, picking=Picking(2), options=options)
        points.append({"temperature": temperature, "top_p": top_p} | figures(part.score(other)))
    return points


def evaluate(
    task: Task, methods: Sequence[Method], out: Path, with_report: bool = False, with_curve: bool = False
) -> dict[str, Any]:
    """Score every method into OUT: scores_NAME.npz each and, undivided, figures.json and the report."""
    if with_curve and not task.networks:
        raise ValueError("a curve needs a feature network: name one with --features or --inception")
    for method in methods:  # before others have been measured for minutes
        if isinstance(method, Folder):
            method.check(task.pictures.names)
    out.mkdir(parents=True, exist_ok=True)
    shard, shards = task.shard
    suffix, scored = f"_{shard}of{shards}" if shards > 1 else "", {}
    for method in methods:
        scored[method.name] = task.score(method)
        scored[method.name].save(out / f"scores_{method.name}{suffix}.npz")
    if shards > 1:
        return {}
    model = next((m for m in methods if isinstance(m, ModelMethod)), None) if with_curve else None
    return conclude(scored, out, curve(task, model) if model else [], (task, methods) if with_report else None)


def conclude(
    scored: dict[str, Scores], out: Path, points: list[dict[str, float]], shown: tuple[Task, Sequence[Method]] | None
) -> dict[str, Any]:
    """Write figures.json and, given what to show, the report; return the figures."""
    result = {}
    for name, scores in scored.items():
        found = figures(scores)
        result[name] = {"about": scores.about, "figures": found, "notes": notes(found, len(scores.index))}
    everything = {"methods": result, "curve": points}
    write_atomic(out / "figures.json", json.dumps(everything, indent=1))
    for name, written in table.FILES.items():
        write_atomic(out / name, written(result))
    if shown:
        report.write(out, everything, scored, *shown)
    return result


def join(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Merge the shards that lie in `folders`, method by method, into OUT/figures.json."""
    found: dict[str, list[Scores]] = {}
    for path in sorted(f for folder in folders for f in folder.glob("scores_*of*.npz")):
        name = re.sub(r"_\d+of\d+$", "", path.stem.removeprefix("scores_"))
        found.setdefault(name, []).append(Scores.load(path))
    if not found:
        raise ValueError(f"{', '.join(map(str, folders))}: no scores_*of*.npz, the shards of an evaluation")
    out.mkdir(parents=True, exist_ok=True)
    merged = {name: merge(parts) for name, parts in found.items()}
    for name, scores in merged.items():
        scores.save(out / f"scores_{name}.npz")
    return conclude(merged, out, [], None)


def picked(protocol: str, samples: int | None, of: int | None, choose: Choice) -> Picking:
    """Return which completions count: what was asked for, else the protocol's own choice of the best, else five."""
    found = protocols.PROTOCOLS.get(protocol)  # an unknown one is told where the holes are made
    if found is not None and found.best and samples is None and of is None:
        return Picking(*found.best, "likely", nearest=True)
    return Picking(5 if samples is None else samples, of, choose)


def methods(
    models: Sequence[Inpainter],
    picking: Picking,
    seed: int,
    options: Sampling,
    known_codes: KnownCodes,
    fit: Fit,
    baselines: Sequence[str],
    folders: Sequence[Path],
    true_codes: bool = False,
) -> list[Method]:
    """Return the methods to compare: models first, then baselines and folders of results."""
    listed: list[Method] = [ModelMethod(m, picking, m.options(**options), known_codes, seed, fit) for m in models]
    listed += [TrueCodes.of(m, fit) for m in models if true_codes]
    listed += [Classical(name) for name in baselines]
    listed += [Folder(folder) for folder in folders]
    names = [m.name for m in listed]
    if len(set(names)) < len(names):
        raise ValueError(f"two methods of one name: {', '.join(names)}")
    return listed
