"""How docs/pipeline.png is made: one photo at every station of its way, from any folder, without anything else.

    python scripts/pipeline.py

From left to right: the photo; what the networks see of it; the sampled structure codes, 16x16, a colour each; the
structure alone, decoded without texture; the completion. Below, the same three of another seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from manifill.inpainter import Inpainter
from manifill.photos.tensors import grid

ROOT = Path(__file__).parent.parent
PANEL = 192
SEEDS = (0, 3)


def colours(codebook: torch.Tensor) -> np.ndarray:
    """Return a colour for every code, uint8 (K, 3): prototypes that are near each other have like colours.

    Red, green and blue are the ranks of the prototypes along their first three principal components.
    """
    centred = codebook - codebook.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:3]  # (3, D)
    ranks = (centred @ components.t()).argsort(0).argsort(0)
    return (ranks.float() / (len(codebook) - 1) * 255).byte().numpy()


def main() -> None:
    """Write docs/pipeline.png."""
    model = Inpainter.from_pretrained("faces-128", "cpu", torch.float32)
    palette = colours(model.vqvae.encoder.structure_quantiser.codebook)
    with Image.open(ROOT / "examples" / "astronaut.png") as photo, Image.open(ROOT / "examples" / "centre.png") as mask:
        photo.load()
        mask.load()
    rows = []
    for seed in SEEDS:
        completions = model(photo, mask, num_samples=1, seed=seed)
        (completion,) = completions
        codes = Image.fromarray(palette[completion.codes[0]])
        rows.append([completions.photo.rgb, completions.masked(), codes, completion.structure, completion.rgb])
    columns = []
    for column in zip(*rows, strict=True):
        scaled = [picture(x).resize((PANEL, PANEL), Image.Resampling.NEAREST) for x in column]
        columns.append(np.stack([np.asarray(x) for x in scaled]))
    columns[:2] = [np.concatenate([c[:1], np.full_like(c[:1], 255)]) for c in columns[:2]]  # both rows share these
    grid(columns, gap=6).save(ROOT / "docs" / "pipeline.png", optimize=True)


def picture(x: np.ndarray | Image.Image) -> Image.Image:
    """Return a picture, which may be an array, as one in RGB."""
    return (Image.fromarray(x) if isinstance(x, np.ndarray) else x).convert("RGB")


if __name__ == "__main__":
    main()
