"""What a run has left so far, read back while it goes on or after it was killed: settings, figures, what is wrong."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from manifill.config import ModelConfig, to_dict
from manifill.data.sources import DataError
from manifill.networks.checkpoint import read_header
from manifill.train.config import RENAMED
from manifill.train.diagnosis import Diagnosis, Log, diagnose


def of_run(run: Path, stage: str) -> Diagnosis:
    """Return what is wrong with a stage of the run in folder `run`."""
    return diagnose_log(stage, read_log(run, stage))


def diagnose_log(stage: str, log: Log) -> Diagnosis:
    """Return what is wrong with a stage; without its settings nothing is checked."""
    if not log.settings:
        return Diagnosis({}, [], ["everything: config.json, the stage's settings, is missing"])
    return diagnose(stage, log)


def read_log(run: Path, stage: str) -> Log:
    """Return what a stage of the run in folder `run` has left so far. Raises DataError for damaged settings."""
    settings, (lines, torn) = read_settings(run / stage), read_lines(run / stage / "metrics.jsonl")
    return Log(lines, settings, vqvae_figures(run) if settings and stage != "vqvae" else {}, torn)


def vqvae_figures(run: Path) -> dict[str, float]:
    """Return the figures of the VQ-VAE in the run's model, with `val_`; none when it has no VQ-VAE yet."""
    if not (run / "model" / "vqvae.safetensors").exists():
        return {}
    return {f"val_{key}": value for key, value in read_header(run / "model", "vqvae").figures.items()}


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what a stage was started with, empty when its folder does not say. Raises DataError."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text()) if path.exists() else None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the settings of a stage ({error})") from error
    if found is None:
        return {}
    if not _are_settings(found):
        raise DataError(f"{path}: not the settings of a stage; expected an object with its training and its model")
    found["training"] = {RENAMED.get(name, name): value for name, value in found["training"].items()}
    return found


def _are_settings(found: Any) -> bool:
    """Say whether a JSON value has the parts of a stage's settings that are looked into."""
    if not isinstance(found, dict) or not all(isinstance(found.get(k), dict) for k in ("training", "model")):
        return False
    return all(
        isinstance(found["model"].get(key), dict if isinstance(value, dict) else int)
        for key, value in to_dict(ModelConfig()).items()
    )


def spent(log: Log) -> float | None:
    """Return the seconds of all training steps that are logged; validations are not counted. None: not known."""
    size, speed = log.training.get("batch_size"), log.series("pictures_per_s")
    if not size or not speed:
        return None
    pairs = pairwise([(0, 0.0), *speed])
    return sum((step - before) * size / rate for (before, _), (step, rate) in pairs if rate > 0)


def read_lines(log: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a metrics.jsonl, none when there is no such file, and how many hold no figures (torn)."""
    found = [finite_values(line) for line in log.read_text(errors="replace").splitlines()] if log.exists() else []
    lines = [line for line in found if line]
    return lines, len(found) - len(lines)


def finite_values(line: str) -> dict[str, Any]:
    """Return the finite figures of a line, empty unless it has a step."""
    try:
        values = json.loads(line)
        finite = {k: v for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
    except (ValueError, AttributeError, RecursionError):  # cut short by a kill, or not a line of ours
        return {}
    return finite if "step" in finite else {}
