"""How the two files beside this script were made: NASA's portrait of Eileen Collins, cropped like the training faces.

Needs scikit-image (public-domain picture `skimage.data.astronaut()`); run it as `python examples/prepare.py`.
"""

import math
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

EYES = ((200.0, 100.0), (248.0, 104.0))  # in the 512x512 portrait
TARGET = ((41.0, 41.0), (87.0, 41.0))  # where the training faces have theirs, at 128x128


def main() -> None:
    """Turn, scale and crop the portrait so that its eyes lie where the training faces have theirs."""
    (ax, ay), (bx, by) = EYES
    (cx, cy), (dx, _) = TARGET
    angle, scale = math.atan2(by - ay, bx - ax), math.hypot(bx - ax, by - ay) / (dx - cx)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    matrix = (c, -s, ax - c * cx + s * cy, s, c, ay - s * cx - c * cy)
    here = Path(__file__).parent
    portrait = Image.fromarray(skimage.data.astronaut())
    portrait.transform((128, 128), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC).save(
        here / "astronaut.png"
    )
    hole = np.zeros((128, 128), np.uint8)
    hole[32:96, 32:96] = 255
    Image.fromarray(hole).save(here / "centre.png", optimize=True)


if __name__ == "__main__":
    main()
