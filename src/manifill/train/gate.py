"""What must hold of a VQ-VAE before other networks are built on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manifill.networks.checkpoint import ModelError
from manifill.train.diagnosis import PERPLEXITY, empty


def vqvae_problems(found: dict[str, Any]) -> list[str]:
    """Return in words what is wrong with a VQ-VAE of these figures: empty structure codes, a collapsed codebook."""
    problems = []
    if empty(found):
        problems.append(
            f"its structure codes alone decode to {found['psnr_structure']:.1f} dB, no better than each "
            f"picture's mean colour ({found['psnr_mean_colour']:.1f} dB), and those of another picture in their place "
            f"cost nothing: they carry nothing"
        )
    for level in ("structure", "texture"):
        if found[f"{level}_perplexity"] < PERPLEXITY:
            problems.append(
                f"its {level} codebook has collapsed: {found[f'{level}_codes_used']} codes used, "
                f"perplexity {found[f'{level}_perplexity']:.1f}"
            )
    return problems


def check_vqvae(found: dict[str, Any], path: Path, force: bool) -> None:
    """Refuse a VQ-VAE that has problems, unless forced. Raises ModelError."""
    problems = vqvae_problems(found)
    if not problems:
        return
    message = f"{path}: " + "; ".join(problems)
    if not force:
        raise ModelError(f"{message}. Train the VQ-VAE longer or with structure_only, or force with --force")
    print(f"forced: {message}")
