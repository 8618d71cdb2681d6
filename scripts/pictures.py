"""How the README's pictures of completions are made: run it after a change of the bundled model, from any folder.

    python scripts/pictures.py

Needs scikit-image, whose portrait of Eileen Collins is NASA's and in the public domain. Seeds begin at 0, nothing is
chosen. The film of the page, page.webp, is film.py's.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from manifill.inpainter import Inpainter
from manifill.photos.tensors import grid

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PORTRAIT = (104, 7, 373, 343)  # of the 512x512 picture
CIRCLE = (88, 84, 152, 148)  # the hole in it
PANEL = (288, 360)


def main() -> None:
    """Write docs/astronaut.png, the grid of `make demo`, and docs/photo.png."""
    subprocess.run(["make", "demo"], cwd=ROOT, check=True)
    shutil.copyfile(ROOT / "out" / "demo" / "astronaut_grid.png", DOCS / "astronaut.png")
    photo = Image.fromarray(skimage.data.astronaut()).crop(PORTRAIT)
    hole = Image.new("L", photo.size)
    ImageDraw.Draw(hole).ellipse(CIRCLE, fill=255)
    completions = [c.image for c in Inpainter.from_pretrained("faces-128")(photo, hole, num_samples=3, seed=0)]
    masked = Image.composite(Image.new("RGB", photo.size, "white"), photo, hole)
    panels = [np.asarray(p.resize(PANEL, Image.Resampling.LANCZOS)) for p in (photo, masked, *completions)]
    grid([panel[None] for panel in panels], gap=4).save(DOCS / "photo.png", optimize=True)


if __name__ == "__main__":
    main()
