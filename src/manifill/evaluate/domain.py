"""What a model's pictures are like, measured on some that it was not trained on: where faces lie, what is familiar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from manifill.data.dataset import first
from manifill.data.masks import centre_mask
from manifill.data.pictures import Pictures
from manifill.model import Model
from manifill.networks.domain import Domain, Framing
from manifill.photos.faces import find_faces

COUNT = 250  # pictures that are measured
FACES = 0.8  # with a face in so many of them, a model's pictures are faces
ACCUSED = 0.01  # fraction of its own pictures that each of the two measures may call strange
BATCH = 10


def measure_domain(model: Model, pictures: Path, subject: str) -> Domain:
    """Return the domain of a model by at most COUNT pictures (a folder, list or shards) that show its `subject`."""
    found, each = Pictures.of(first([pictures])[:COUNT], model.image_size, quiet=True), []
    for _, image in found.batches(COUNT, BATCH):
        image = image.to(model.device)
        each.append(torch.stack(model.familiarity(image, centre_mask(image))).cpu())
    psnr, bits = torch.cat(each, 1).numpy()
    least, most = float(np.quantile(psnr, ACCUSED)), float(np.quantile(bits, 1 - ACCUSED))
    return Domain(subject, framing_of(found.array), round(least, 2), round(most, 2))


def framing_of(pictures: np.ndarray) -> Framing | None:
    """Return the mean places of eyes and mouth in pictures, uint8 (N, S, S, 3), in parts of their side.

    None where fewer than FACES of them show a face.
    """
    faces = [found[0].points for picture in pictures if (found := find_faces(picture))]
    if len(faces) < FACES * len(pictures):
        return None
    right, left, _, mouth, *_ = ((float(x), float(y)) for x, y in (np.mean(faces, 0) / pictures.shape[1]).round(4))
    return Framing(right, left, mouth)
