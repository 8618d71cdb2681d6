"""The report of a run, finished or not: one HTML page that says what is wrong and shows curves and previews.

Everything is in the page, so that it can be mailed; it asks no other host for anything and runs no script.
"""

from __future__ import annotations

import base64
import io
import re
import shlex
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from manifill.data.sources import DataError
from manifill.data.unreadable import unreadable_in
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import model_hash, present
from manifill.train.chart import Curve, chart
from manifill.train.config import TRAININGS
from manifill.train.diagnosis import LEVELS, diagnose
from manifill.train.logs import Log, read_log
from manifill.train.page import TEMPLATES, rendered
from manifill.train.settings import flat

PLACES = {"training": "{}", "held-out": "val_{}", "seen": "val_seen_{}"}  # where a figure is measured
GROUPS = {
    "vqvae": {
        "PSNR of held-out pictures, dB": {
            "all codes": "val_psnr",
            "structure alone": "val_psnr_structure",
            "texture alone": "val_psnr_texture",
            "mean colour": "val_psnr_mean_colour",
        },
        "Perplexity of the codes, held-out": {level: f"val_{level}_perplexity" for level in LEVELS},
        "Codes used, held-out": {level: f"val_{level}_codes_used" for level in LEVELS},
    },
    "structure": {
        title: {place: form.format(key) for place, form in PLACES.items()}
        for title, key in (
            ("Bits a code inside the hole", "bits_hole"),
            ("Bits a code where the picture is known", "bits_known"),
            ("Bits a code over all", "bits"),
            ("Bits a code lost to the teacher, inside the hole of sampled structures", "taught"),
        )
    },
    "texture": {
        "PSNR with true structure codes, dB": {"held-out": "val_psnr"},
        "Scores of the discriminator": {"photos": "d_real", "completions": "d_composed"},
        "Hinge loss of the discriminator": {"training": "discriminator"},
    },
}
# the charts of several figures, as title -> name -> figure; every other figure has one, with where it is measured
LARGEST, QUALITY = 1400, 88  # pixels of a preview's longer side, and of its JPEG


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path. Raises DataError where there is no run."""
    begun = [name for name in TRAININGS if any((run / name / f).exists() for f in ("metrics.jsonl", "config.json"))]
    if not begun:
        raise DataError(
            f"{run}: no run to report on; expected a folder vqvae, structure or texture with metrics.jsonl "
            "in it, as `manifill train --out` leaves them"
        )
    logs = {name: read_log(run, name) for name in begun}
    folder, there = run / "model", present(run / "model")
    diagnoses = {name: diagnose(name, log) for name, log in logs.items()}
    values = {
        "title": f"manifill train: {run.resolve().name}",
        "problems": [(name, words) for name, found in diagnoses.items() for words in found.problems.values()],
        "sound": any(found.absent for found in diagnoses.values()),
        "looked": [[name, "; ".join(found.absent), "; ".join(found.unchecked)] for name, found in diagnoses.items()],
        "state": [
            state_row(n, logs[n]) if n in logs else [n, "not trained in this run", "", "", ""] for n in TRAININGS
        ],
        "torn": torn(run, logs),
        "stages": [
            {
                "name": name,
                "begun": bool(log.lines),
                "charts": curves(name, log),
                "previews": previews(run / name),
            }
            for name, log in logs.items()
        ],
        "settings": settings(logs),
        "weights": model_hash(folder) if there else "",
        "networks": there,
        "missing": [name for name in TRAININGS if name not in there],
        "folder": shlex.quote(str(folder)),
        "folder_in_python": repr(str(folder)),
    }
    write_atomic(run / "report.html", rendered(TEMPLATES / "report.html", values))
    return run / "report.html"


def torn(run: Path, logs: dict[str, Log]) -> list[str]:
    """Return what could not be read, in sentences."""
    found = [
        f"{name}/metrics.jsonl: {log.torn} unreadable lines left out, as a kill leaves one."
        for name, log in logs.items()
        if log.torn
    ]
    if count := len(unreadable_in(run)):
        found.append(f"{count} pictures or shards could not be read; unreadable.txt names them.")
    return found


def state_row(name: str, log: Log) -> list[str]:
    """Return a stage's row of the table of states."""
    steps, speeds = log.training.get("steps", 0), points(log, "pictures_per_s")[:, 1]
    finished = 0 < steps <= log.taken
    words = "finished" if finished else "in progress, or interrupted" if log.lines else "no step logged yet"
    latest = f"{median(speeds[-max(1, len(speeds) // 10) :]):.3g}" if len(speeds) else ""
    time = "unknown" if log.seconds is None else str(timedelta(seconds=round(log.seconds)))
    return [name, words, f"{log.taken} of {steps or 'unknown'}", latest, time]


def points(log: Log, key: str) -> np.ndarray:
    """Return (step, value) of a figure (n, 2)."""
    return np.array(log.series(key) if key in log.latest else [], float).reshape(-1, 2)


def curves(name: str, log: Log) -> list[tuple[str, str, str]]:
    """Return (title, latest values, SVG) of a chart for all figures that a stage has logged; GROUPS come first."""
    groups = dict(GROUPS[name])
    done = {key for names in groups.values() for key in names.values()} | {"step", "pictures_per_s"}
    for key in dict.fromkeys(key for line in log.lines for key in line):
        if key not in done:
            base = key.removeprefix("val_").removeprefix("seen_")
            places = {place: form.format(base) for place, form in PLACES.items()}
            groups[base.replace("_", " ")] = places
            done |= set(places.values())
    drawn = []
    for title, keys in (groups | {"Pictures a second": {"training": "pictures_per_s"}}).items():
        found = [
            Curve(place, points(log, key), not key.startswith("val_"))
            for place, key in keys.items()
            if key in log.latest
        ]
        if found:
            drawn.append((title, ", ".join(curve.latest for curve in found), chart(title, found)))
    return drawn


def previews(folder: Path) -> list[tuple[int, str, str]]:
    """Return (step, name, JPEG in base64, "" where it cannot be read) of the first, middle and latest preview."""
    files = sorted(folder.glob("preview_*.png"), key=step_of)
    chosen = dict.fromkeys([files[0], files[len(files) // 2], files[-1]]) if files else {}
    return [(step_of(file), file.name, inlined(file)) for file in chosen]


def step_of(file: Path) -> int:
    """Return the step in a preview's name, 0 when it has none."""
    found = re.search(r"\d+$", file.stem)
    return int(found.group()) if found else 0


def inlined(file: Path) -> str:
    """Return a picture as a JPEG of moderate size, in base64; "" when it cannot be read."""
    buffer = io.BytesIO()
    try:
        with Image.open(file) as found:
            small = found.convert("RGB")
    except OSError:
        return ""
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def settings(logs: dict[str, Log]) -> list[list[str]]:
    """Return what every stage was started with, a line a setting; the sizes of the networks come last."""
    found = [flat(log.settings) for log in logs.values()]
    keys = sorted(dict.fromkeys(key for one in found for key in one), key=lambda key: key.startswith("model."))
    return [[key, *(str(one.get(key, "")) for one in found)] for key in keys]
