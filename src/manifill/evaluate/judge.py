"""Which weights of a training are the best: LPIPS with AlexNet on held-out pictures, at three kinds of holes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from manifill.data.pictures import Pictures
from manifill.evaluate.features import LPIPS
from manifill.evaluate.protocols import masks

PROTOCOLS = ("paper-centre", "comod-large", "lama-medium")
JUDGED, BATCH = 60, 20  # pictures, the first of the held-out ones, which are spread over all of them


class LPIPSJudge:
    """Mean LPIPS-alex between completions and photos, lower is better, of each protocol and, `lpips_alex`, of all.

    No loss may use this network. Raises ValueError for a file that is not its weights.
    """

    name = "lpips_alex"

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        LPIPS("alex", weights)  # a wrong file is told before anything is trained

    def __call__(
        self, complete: Callable[[Tensor, Tensor], Tensor], pictures: Pictures, device: torch.device
    ) -> dict[str, float]:
        """Return `lpips_alex_PROTOCOL` of each and `lpips_alex`, their mean."""
        network, count = LPIPS("alex", self.weights, device=device), min(JUDGED, len(pictures))
        found = {}
        for protocol in PROTOCOLS:
            holes = torch.from_numpy(masks(protocol, count, pictures.size))[:, None].float()
            total = 0.0
            for rows, image in pictures.batches(count, BATCH):
                image = image.to(device)
                done = complete(image, holes[rows.start : rows.stop].to(device)).clamp(-1, 1)
                total += float(network.perceptual((done + 1) * 127.5, (image + 1) * 127.5).sum())
            found[f"{self.name}_{protocol}"] = total / count
        return found | {self.name: sum(found.values()) / len(found)}
