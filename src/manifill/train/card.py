"""The model card of a run: what was trained, on what, how, and how well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manifill.checkpoint import NETWORKS, model_hash, read_header, write_atomic

TITLES = {"vqvae": "Hierarchical VQ-VAE", "structure": "Structure generator", "texture": "Texture generator"}


def write_card(out: Path, preset: str, data: list[str]) -> None:
    """Write `out`/model/README.md from the networks there and their settings; `data` names the pictures."""
    folder = out / "model"
    present = [n for n in NETWORKS if (folder / f"{n}.safetensors").exists()]
    lines = [
        f"# A manifill model, preset {preset}", "",
        f"Weights {model_hash(folder)}. Trained on {', '.join(data)}.",
        "The licence of these weights follows that of the pictures: name it here before you share them.",
        "", "Trained by", "", f"    manifill train all --data {' '.join(data)} --out RUN --preset {preset}", "",
    ]  # fmt: skip
    for name in present:
        if name in TITLES:
            lines += section(out, name, read_header(folder, name).figures, read_header(folder, name).step)
    write_atomic(folder / "README.md", lambda f: f.write("\n".join(lines).encode()))


def section(out: Path, name: str, figures: dict[str, Any], step: int) -> list[str]:
    """Return the lines on one network: settings that it was trained with, and its figures on held-out pictures."""
    lines = [f"## {TITLES[name]}", ""]
    path = out / name / "config.json"
    if path.exists():
        used = json.loads(path.read_text())
        settings = ", ".join(f"{k} {v}" for k, v in used["training"].items())
        lines += [f"{used['pictures']} pictures, seed {used['seed']}, {used['precision']}: {settings}.", ""]
    lines += [f"Step {step}, on held-out pictures:", "", "| figure | value |", "| --- | --- |"]
    return [*lines, *(f"| {k} | {v:.4g} |" for k, v in figures.items()), ""]
