"""What the speed benchmarks share: a model to measure, which may have random weights, and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from manifill.inpainter import Inpainter, bundled
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.train.presets import PRESETS


def fastest(work: Callable[[], object], times: int = 3) -> float:
    """Return the least seconds of `times` runs of `work()`, after one that is not counted."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def subject(name: str, dtype: torch.dtype | None = None, device: str = "cpu") -> Inpainter:
    """Return a bundled model, a model folder or, named after another preset, one with random weights."""
    if name in bundled() or Path(name).is_dir():
        return Inpainter.from_pretrained(name, device, dtype)
    torch.manual_seed(0)
    config = PRESETS[name].model
    networks = VQVAE(config.vqvae), StructureGenerator(config.structure), TextureGenerator(config.texture)
    for network in networks:
        network.requires_grad_(False)
    return Inpainter(*networks, config.image_size, name, "random", device, dtype)


def square(size: int, side: int) -> np.ndarray:
    """Return a mask of size x size pixels with a square hole of the given side in its middle."""
    hole = np.zeros((size, size), np.bool_)
    first = (size - side) // 2
    hole[first : first + side, first : first + side] = True
    return hole


def photo(size: int) -> np.ndarray:
    """Return the example as uint8 (size, size, 3)."""
    from PIL import Image

    with Image.open(Path(__file__).parent.parent / "examples" / "astronaut.png") as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
