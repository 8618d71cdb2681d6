"""What a run has left so far, read back while it goes on or after it was killed: settings and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from manifill.config import ModelConfig, to_dict
from manifill.data.sources import DataError
from manifill.networks.checkpoint import read_header

FEWEST, MOST = 200, 30_000  # steps before which, and after which, a run is never too young
ENOUGH = 0.75  # of the preset's steps: with less, pictures are blurred or streaked though no figure looks wrong


def in_minutes(minutes: float) -> str:
    """Return "1 minute" or "30 minutes"."""
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


@dataclass(frozen=True)
class Log:
    """The lines of a stage, how many more are torn, its settings, and the latest figures of the VQ-VAE below it."""

    lines: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    vqvae: Mapping[str, float]
    torn: int = 0

    @property
    def training(self) -> Mapping[str, Any]:
        """The stage's own settings."""
        return self.settings.get("training", {})

    @property
    def codes(self) -> int:
        """The size of the codebooks, the paper's where the settings do not say."""
        return self.settings.get("model", {}).get("vqvae", {}).get("codebook_size", 512)

    @property
    def taken(self) -> int:
        """Steps taken so far."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def seconds(self) -> float | None:
        """The time of all training steps that are logged, without validations; None: not known."""
        size = self.training.get("batch_size")
        if not size or "pictures_per_s" not in self.latest:
            return None
        pairs = pairwise([(0, 0.0), *self.series("pictures_per_s")])
        return sum((step - before) * size / rate for (before, _), (step, rate) in pairs if rate > 0)

    @property
    def minutes_needed(self) -> int:
        """Minutes, a multiple of 5, for the preset's steps; 0 for a stage that was long enough or goes on."""
        usual, minutes = self.settings.get("usual_steps"), self.settings.get("minutes")
        through = self.taken >= self.training.get("steps", math.inf)
        if not through or not usual or not minutes or self.taken >= ENOUGH * usual:
            return 0
        return math.ceil(minutes * usual / max(self.taken, 1) / 5) * 5

    def early(self, fraction: float) -> bool:
        """Whether the run is too young for what shows after a fraction of its steps; a finished one never is."""
        steps = self.training.get("steps", 0)
        return self.taken < min(steps, max(FEWEST, min(fraction * steps, MOST)))

    @cached_property
    def latest(self) -> dict[str, float]:
        """The latest value of every figure; those of the VQ-VAE are called vqvae_..."""
        found: dict[str, float] = {f"vqvae_{key}": value for key, value in self.vqvae.items()}
        for line in self.lines:
            found.update(line)
        return found

    def series(self, *keys: str) -> list[tuple[float, ...]]:
        """Return (step, value of each key) of the lines that have all keys. Raises KeyError for one that none has."""
        for key in keys:
            self.latest[key]
        return [(line["step"], *(line[k] for k in keys)) for line in self.lines if all(k in line for k in keys)]

    def stretch(self, fraction: float, *keys: str) -> list[float]:
        """Return the median of each key over the latest `fraction` of the steps taken."""
        points = [p for p in self.series(*keys) if p[0] >= (1 - fraction) * self.taken]
        return [median(column) for column in list(zip(*points, strict=True))[1:]] if points else [math.nan] * len(keys)


def read_log(run: Path, stage: str) -> Log:
    """Return what a stage of the run in folder `run` has left so far. Raises DataError for damaged settings."""
    settings, (lines, torn) = read_settings(run / stage), read_lines(run / stage / "metrics.jsonl")
    below = stage != "vqvae" and bool(settings) and (run / "model" / "vqvae.safetensors").exists()
    figures = read_header(run / "model", "vqvae").figures if below else {}
    return Log(lines, settings, {f"val_{key}": value for key, value in figures.items()}, torn)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what a stage was started with, empty when its folder does not say. Raises DataError."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the settings of a stage ({error})") from error
    sizes = {key: type(value) for key, value in to_dict(ModelConfig()).items()}
    if not (holds(found, {"training": dict, "model": dict}) and holds(found["model"], sizes)):
        raise DataError(f"{path}: not the settings of a stage; expected an object with its training and its model")
    return found


def holds(found: Any, kinds: Mapping[str, type]) -> bool:
    """Say whether something read from a file is a dict with values of these kinds."""
    return isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())


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
    except (ValueError, AttributeError, RecursionError, OverflowError):  # cut short by a kill, or not a line of ours
        return {}
    return finite if "step" in finite else {}
