"""Stage one: the hierarchical VQ-VAE (section 3.1).

The loss (Eq. 1-3) of a picture x, features f and their prototypes e: |x - decoder(e)|^2 + 0.25 |f - stopped(e)|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from manifill.networks.checkpoint import save_network
from manifill.networks.vqvae import VQVAE, Encoding
from manifill.train import codebooks
from manifill.train.distributed import Share
from manifill.train.loop import Metrics, Setup, Stage, average, schedule
from manifill.train.measure import vqvae_metrics
from manifill.train.previews import show_vqvae


class VQVAEStage(Stage):
    """Reconstruction and commitment losses, EMA codebooks, polyak-averaged weights."""

    name = "vqvae"

    def __init__(self, setup: Setup, start: VQVAE | None = None) -> None:
        super().__init__(setup, setup.preset.vqvae)
        self.begin = "given" if start is not None else codebooks.first_codebooks(self.options)
        self.model = (start or VQVAE(setup.preset.model.vqvae)).requires_grad_(True).train()
        if self.begin == "paper":
            codebooks.authors_weights(self.model)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, self.options.averaging)
        self.shown = cast(VQVAE, self.averaged.module)  # what is validated and exported
        self.optimiser = torch.optim.Adam(self.model.parameters())
        self.network = self.processes.spread(self.model)
        self.state |= {"model": self.model, "averaged": self.averaged, "optimiser": self.optimiser}
        self.rates = [(self.optimiser, schedule(self.options.schedule, self.options.learning_rate, lambda: self.steps))]

    def step(self, own: Share) -> Sequence[Metrics]:
        own = own.to(self.device)
        taken = int(self.averaged.n_averaged)
        if taken == 0 and self.begin == "data":
            codebooks.start_from_data(self.model, own, self.processes)
        self.optimiser.zero_grad(set_to_none=True)
        learnt = [self._learn(share) for share in self.processes.shares(own, self.network)]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_codebooks([encoding for _, encoding in learnt], taken)
        self.averaged.update_parameters(self.model)
        return [losses for losses, _ in learnt]

    def _learn(self, share: Share) -> tuple[Metrics, Encoding]:
        """Add the gradients of a share; return its losses and its encoding."""
        # its codes are found in float32 within (Quantiser.distances), whatever the convolutions run in
        with self.setup.autocast():
            encoding, decoded = self.network(share.image, self._texture_kept(share))
        reconstruction = F.mse_loss(decoded.float(), share.image)
        commitment = commitment_loss(encoding)
        loss = reconstruction + self.options.commitment_weight * commitment
        self.scaler.scale(loss / self.processes.accumulate).backward()
        losses = {"loss": loss, "reconstruction": reconstruction, "commitment": commitment}
        return {k: v.detach() for k, v in losses.items()}, Encoding(*(x.detach() for x in encoding))

    def _texture_kept(self, share: Share) -> Tensor:
        """Return 0 for pictures that structure codes are to carry alone, which is not in the paper, else 1: (n,)."""
        count = round(self.options.structure_only * share.whole)
        return share.rows((torch.arange(share.whole, device=self.device) >= count).float())

    def _update_codebooks(self, shares: Sequence[Encoding], taken: int) -> None:
        # no gradient reaches a codebook: it follows, as moving averages, the features that chose its codes
        encoder = self.model.encoder
        levels = (
            (encoder.structure_quantiser, [(e.structure_features, e.structure_codes) for e in shares]),
            (encoder.texture_quantiser, [(e.texture_features, e.texture_codes) for e in shares]),
        )
        for quantiser, chosen in levels:
            features, codes = (torch.cat(x) for x in zip(*chosen, strict=True))
            decay = codebooks.unbiased(self.options.decay, taken) if self.begin == "paper" else self.options.decay
            quantiser.update(features, codes, decay, self.processes.total)
            if self.options.revive and taken < self.steps * 0.8:
                codebooks.revive(quantiser, features, taken, self.processes)

    def validate(self) -> Metrics:
        return vqvae_metrics(self.shown, self.val, self.device)

    def preview(self) -> Image.Image:
        return show_vqvae(self.shown, self.val, self.device)

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        if last:  # the other stages build on the final codebooks
            save_network(folder, "vqvae", self.shown, self.val.size, step, figures)


def commitment_loss(e: Encoding) -> Tensor:
    """Return the mean squared distances of both levels' features to their codes, added (Eq. 1-3), before the weight."""
    structure = F.mse_loss(e.structure_features.float(), e.structure.detach().float())
    return structure + F.mse_loss(e.texture_features.float(), e.texture.detach().float())
