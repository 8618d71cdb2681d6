"""Stage one: the hierarchical VQ-VAE (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import save_network
from manifill.networks.vqvae import VQVAE, Encoding
from manifill.train.codebooks import concatenate, first_codebooks, revive, start_from_data
from manifill.train.config import Preset
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.loop import Metrics, autocast, average, scaler, schedule
from manifill.train.measure import vqvae_metrics
from manifill.train.previews import show_vqvae
from manifill.train.start import authors_weights, unbiased


class StepCount(torch.nn.Module):
    """The number of steps taken; a module so that checkpoints carry it."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


class Autoencoder(torch.nn.Module):
    """Encode and decode in one call, which is what several processes spread and torch.compile compiles."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, keep: Tensor) -> tuple[Encoding, Tensor]:
        """Return the encoding of (N, 3, H, W) and its decoded picture; `keep` (N,) is 0 to leave out texture codes."""
        e = self.model.encode(image)
        return e, self.model.decode(e.structure, e.texture * keep.to(e.texture.dtype)[:, None, None, None])


class VQVAEStage:
    """Reconstruction and commitment losses, EMA codebooks, polyak-averaged weights."""

    name = "vqvae"
    masks = ()

    def __init__(
        self,
        preset: Preset,
        val: Pictures,
        device: torch.device,
        precision: torch.dtype,
        start: VQVAE | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.options, self.val, self.device, self.precision = preset.vqvae, val, device, precision
        self.steps = self.options.steps
        self.processes, self.scaler = processes, scaler(device, precision)
        self.begin = "given" if start is not None else first_codebooks(self.options)
        self.model = (start or VQVAE(preset.model.vqvae)).requires_grad_(True).train()
        if self.begin == "paper":
            authors_weights(self.model)
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, self.options.averaging)
        self.optimiser = torch.optim.Adam(self.model.parameters())
        self.network = processes.spread(Autoencoder(self.model))
        self.taken = StepCount()
        self.state = {
            "model": self.model,
            "averaged": self.averaged,
            "optimiser": self.optimiser,
            "taken": self.taken,
        }
        if self.scaler.is_enabled():
            self.state["scaler"] = self.scaler
        self.rates = [(self.optimiser, schedule(self.options.schedule, self.options.learning_rate, lambda: self.steps))]

    def step(self, own: Share) -> Sequence[Metrics]:
        own = own.to(self.device)
        taken = int(self.taken.steps)
        if taken == 0 and self.begin == "data":
            start_from_data(self.model, own, self.processes)
        self.optimiser.zero_grad(set_to_none=True)
        learnt = [self._learn(share) for share in self.processes.shares(own, self.network)]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._update_codebooks([encoding for _, encoding in learnt], taken)
        self.averaged.update_parameters(self.model)
        self.taken.steps += 1
        return [losses for losses, _ in learnt]

    def _learn(self, share: Share) -> tuple[Metrics, Encoding]:
        """Add the gradients of a share; return its losses and its encoding."""
        # its codes are found in float32 within (Quantiser.distances), whatever the convolutions run in
        with autocast(self.device, self.precision):
            encoding, decoded = self.network(share.image, self._texture_kept(share))
        reconstruction = F.mse_loss(decoded.float(), share.image)
        commitment = commitment_loss(encoding)
        loss = reconstruction + self.options.commitment_weight * commitment
        self.scaler.scale(loss / self.processes.accumulate).backward()
        losses = {"loss": loss, "reconstruction": reconstruction, "commitment": commitment}
        return {k: v.detach() for k, v in losses.items()}, Encoding(*(x.detach() for x in encoding))

    def _texture_kept(self, share: Share) -> Tensor:
        """Return 0 for a fraction of the pictures, so that the structure codes must carry them, else 1: (n,)."""
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
            features, codes = (concatenate(x) for x in zip(*chosen, strict=True))
            decay = unbiased(self.options.decay, taken) if self.begin == "paper" else self.options.decay
            quantiser.update(features, codes, decay, self.processes.total)
            if self.options.revive and taken < self.steps * 0.8:
                revive(quantiser, features, taken, self.processes)

    @property
    def shown(self) -> VQVAE:
        """The averaged weights, which are validated and exported."""
        return cast(VQVAE, self.averaged.module)

    def validate(self) -> Metrics:
        return vqvae_metrics(self.shown, self.val, self.device)

    def preview(self) -> Image.Image:
        return show_vqvae(self.shown, self.val, self.device)

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        if last:  # the other stages build on the final codebooks
            save_network(folder, "vqvae", self.shown, self.val.size, step, figures)


def commitment_loss(encoding: Encoding) -> Tensor:
    """Return the mean squared distances of both levels' features to their codes, added (Eq. 1-3), before the weight."""
    pairs = (
        (encoding.structure_features, encoding.structure),
        (encoding.texture_features, encoding.texture),
    )
    return sum(
        (F.mse_loss(f.float(), q.detach().float()) for f, q in pairs), torch.zeros((), device=pairs[0][0].device)
    )
