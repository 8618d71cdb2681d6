"""The report of a run, finished or not: one HTML page that says what is wrong and shows curves and previews.

Everything is in the page, so that it can be mailed; it asks no other host for anything and runs no script.
"""

from __future__ import annotations

import base64
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from manifill.data.sources import DataError
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import model_hash, present
from manifill.train import logs
from manifill.train.card import flat
from manifill.train.chart import Curve, chart
from manifill.train.diagnosis import Diagnosis, Log
from manifill.train.page import TEMPLATES, rendered

STAGES = ("vqvae", "structure", "texture")
PLACES = {"training": "{}", "held-out": "val_{}", "seen": "val_seen_{}"}  # where a figure is measured
GROUPS = {
    "vqvae": {
        "PSNR of held-out pictures, dB": {
            "all codes": "val_psnr",
            "structure alone": "val_psnr_structure",
            "texture alone": "val_psnr_texture",
            "mean colour": "val_psnr_mean_colour",
        },
        "Perplexity of the codes, held-out": {
            "structure": "val_structure_perplexity",
            "texture": "val_texture_perplexity",
        },
        "Codes used, held-out": {"structure": "val_structure_codes_used", "texture": "val_texture_codes_used"},
    },
    "structure": {
        title: {place: form.format(key) for place, form in PLACES.items()}
        for title, key in (
            ("Bits a code inside the hole", "bits_hole"),
            ("Bits a code where the picture is known", "bits_known"),
            ("Bits a code over all", "bits"),
            ("Bits a code lost to the teacher, inside the hole of drawn structures", "taught"),
        )
    },
    "texture": {
        "PSNR with true structure codes, dB": {"held-out": "val_psnr"},
        "Scores of the discriminator": {"photos": "d_real", "completions": "d_composed"},
        "Hinge loss of the discriminator": {"training": "discriminator"},
    },
}
# the charts of several figures, as title -> name -> figure; every other figure has one, with where it is measured
NOTES = {
    "vqvae": "",
    "structure": "Training: dropout, holes of all kinds, single batches. Held-out and seen (those it is trained on): "
    "no dropout, the same centre holes; these two compare.",
    "texture": "Training: holes of all kinds, single batches. Held-out: centre holes, averaged weights.",
}
COLUMNS = {
    "vqvae": "photo, decoded from all codes, from the structure codes alone, from the texture codes alone",
    "structure": "photo, its known part, its true structure, four structures drawn for it",
    "texture": "known part, true structure, completed picture, photo",
}
LARGEST, QUALITY = 1400, 88  # pixels of a preview's longer side, and of its JPEG


@dataclass(frozen=True)
class StageLog:
    """What a stage has left in its folder, and what is wrong with it."""

    name: str
    folder: Path
    log: Log
    diagnosis: Diagnosis

    def points(self, key: str) -> np.ndarray:
        """Return (step, value) of a figure (n, 2)."""
        return np.array(self.log.series(key), float).reshape(-1, 2)


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path. Raises DataError where there is no run."""
    stages = [read(run, name) for name in STAGES if begun(run / name)]
    if not stages:
        raise DataError(
            f"{run}: no run to report on; expected a folder vqvae, structure or texture with metrics.jsonl "
            "in it, as `manifill train --out` leaves them"
        )
    there = {stage.name: stage for stage in stages}
    diagnoses = {stage.name: stage.diagnosis for stage in stages}
    values = {
        "title": f"manifill train: {run.resolve().name}",
        "stages": stages,
        "problems": [(name, words) for name, found in diagnoses.items() for words in found.problems.values()],
        "looked": [[name, "; ".join(found.absent), "; ".join(found.unchecked)] for name, found in diagnoses.items()],
        "state": [state_row(there[n]) if n in there else [n, "not trained in this run", "", "", ""] for n in STAGES],
        "torn": torn(run, stages),
        "notes": NOTES,
        "columns": COLUMNS,
        "charts": {stage.name: curves(stage) for stage in stages},
        "previews": {stage.name: previews(stage.folder) for stage in stages},
        "settings": settings(stages),
        **model(run / "model"),
    }
    write_atomic(run / "report.html", rendered(TEMPLATES / "report.html", values))
    return run / "report.html"


def begun(folder: Path) -> bool:
    """Whether a stage has left anything to report."""
    return (folder / "metrics.jsonl").exists() or (folder / "config.json").exists()


def read(run: Path, name: str) -> StageLog:
    """Return what a stage has left so far."""
    log = logs.read_log(run, name)
    return StageLog(name, run / name, log, logs.diagnose_log(name, log))


def torn(run: Path, stages: list[StageLog]) -> list[str]:
    """Return what could not be read, in sentences."""
    lines = {stage.name: stage.log.torn for stage in stages if stage.log.torn}
    found = [f"{name}/metrics.jsonl: {n} unreadable lines left out, as a kill leaves one." for name, n in lines.items()]
    unreadable = run / "unreadable.txt"
    if unreadable.exists() and (count := len(unreadable.read_text().splitlines())):
        found.append(f"{count} pictures or shards could not be read; {unreadable.name} names them.")
    return found


def state_row(stage: StageLog) -> list[str]:
    """Return a stage's row of the table of states."""
    log, steps, speed = stage.log, stage.log.training.get("steps", 0), stage.points("pictures_per_s")
    finished = 0 < steps <= log.taken
    words = "finished" if finished else "in progress, or interrupted" if log.lines else "no step logged yet"
    latest = f"{median(speed[-max(1, len(speed) // 10) :, 1]):.3g}" if len(speed) else ""
    return [stage.name, words, f"{log.taken} of {steps or 'unknown'}", latest, duration(logs.spent(log))]


def duration(seconds: float | None) -> str:
    """Return a time in words."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def curves(stage: StageLog) -> list[tuple[str, str, str]]:
    """Return (title, latest values, SVG) of a chart for all figures that the stage has logged."""
    drawn = []
    for title, keys in grouped(stage).items():
        found = [Curve(name, stage.points(key), not key.startswith("val_")) for name, key in keys.items()]
        if found := [curve for curve in found if len(curve.points)]:
            drawn.append((title, ", ".join(curve.latest for curve in found), chart(title, found)))
    return drawn


def grouped(stage: StageLog) -> dict[str, dict[str, str]]:
    """Return title -> name of the curve -> figure, of each chart; those of GROUPS first."""
    groups = dict(GROUPS[stage.name])
    done = {key for names in groups.values() for key in names.values()} | {"step", "pictures_per_s"}
    for key in dict.fromkeys(key for line in stage.log.lines for key in line):
        base = key.removeprefix("val_").removeprefix("seen_")
        if key not in done:
            groups[base.replace("_", " ")] = {place: form.format(base) for place, form in PLACES.items()}
            done |= {form.format(base) for form in PLACES.values()}
    return groups | {"Pictures a second": {"training": "pictures_per_s"}}


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


def settings(stages: list[StageLog]) -> list[list[str]]:
    """Return what every stage was started with, a line a setting; the sizes of the networks come last."""
    found = [flat(stage.log.settings) for stage in stages]
    keys = dict.fromkeys(key for one in found for key in one)
    return [
        [key, *(str(one.get(key, "")) for one in found)] for key in sorted(keys, key=lambda k: k.startswith("model."))
    ]


def model(folder: Path) -> dict[str, Any]:
    """Return the hash of the weights, the networks that are there, those that miss, and the folder as it is typed."""
    there = present(folder)
    return {
        "weights": model_hash(folder) if there else "",
        "networks": there,
        "missing": [name for name in STAGES if name not in there],
        "folder": shlex.quote(str(folder)),
        "folder_in_python": repr(str(folder)),
    }
