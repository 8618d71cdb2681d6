"""Stage two: the structure generator (section 3.2), on the codes of a frozen VQ-VAE."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from manifill.checkpoint import fingerprint, save_network
from manifill.config import Preset
from manifill.image import grid, to_uint8
from manifill.pictures import Pictures
from manifill.sampling import sample_cached
from manifill.structure import SamplingOptions, StructureGenerator, gumbel_noise
from manifill.texture import hole_cells
from manifill.train import masks
from manifill.train.loop import Metrics, autocast, average, schedule
from manifill.train.parametrise import folded, normalised
from manifill.vqvae import VQVAE

VALIDATED = 200  # pictures


class Best(nn.Module):
    """The lowest bits per code inside the hole so far; a module so that checkpoints carry it."""

    bits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bits", torch.tensor(math.inf))


class StructureStage:
    """Cross-entropy of the true structure codes, teacher-forced (Eq. 4); keeps the best averages by val bits."""

    name = "structure"

    def __init__(
        self, preset: Preset, vqvae: VQVAE, val: Pictures, device: torch.device, precision: torch.dtype,
        start: StructureGenerator | None = None,
    ) -> None:  # fmt: skip
        self.options, self.val, self.device, self.precision = preset.structure, val, device, precision
        self.vqvae, self.size = vqvae.to(device), preset.model.image_size
        model = start or started(preset)
        self.model = normalised(model.requires_grad_(True)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, self.options.averaging)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), weight_decay=self.options.weight_decay)
        self.best = Best()
        self.state = {
            "model": self.model, "averaged": self.averaged, "optimiser": self.optimiser, "best": self.best,
        }  # fmt: skip
        o, width = self.options, preset.model.structure.width
        self.rates = [(self.optimiser, schedule(o.schedule, o.learning_rate, o.steps, width))]

    def step(self, image: Tensor, rng: np.random.Generator) -> Metrics:
        mask = masks.draw(self.options.masks, len(image), self.size, rng).to(self.device)
        image = image.to(self.device, memory_format=torch.channels_last)
        self.model.train()
        with autocast(self.device, self.precision):
            nats = self.cross_entropy(self.model, image, mask)
        hole = hole_cells(mask, *nats.shape[1:]).view_as(nats)
        loss = (nats * torch.where(hole, 1.0, self.options.known_weight)).sum()  # summed: Adam hides the scale
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.options.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip * nats.numel())
        self.optimiser.step()
        self.averaged.update_parameters(self.model)
        return bits(nats.detach(), hole)

    def cross_entropy(self, model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        """Return the negative log-likelihood of every true code in nats (N, h, w)."""
        structure, codes, cond = self.given(model, image, mask)
        return F.cross_entropy(model.logits(structure, cond).float(), codes, reduction="none")  # type: ignore[operator]

    def given(self, model: nn.Module, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the true structure features and codes, and `cond` of the masked pictures."""
        encoder, features = self.vqvae.encoder, None
        with torch.no_grad():
            codes = encoder.structure_quantiser.codes(encoder.structure_features(image))
            if model.config.condition_features:  # type: ignore[union-attr]
                features = encoder.structure_features(image * (1 - mask))
        return self.vqvae.lookup(codes), codes, model.cond(image, mask, features)  # type: ignore[operator]

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return bits per code with centre holes, over all codes and inside the hole."""
        model = self.averaged.module.eval()
        sums, count = {"bits": 0.0, "bits_hole": 0.0, "bits_known": 0.0}, min(VALIDATED, len(self.val))
        mask = masks.centre_mask(self.size).to(self.device)
        for start in range(0, count, 20):
            image = self.val.tensor(range(start, min(start + 20, count))).to(self.device)
            batch = mask.expand(len(image), -1, -1, -1)
            nats = self.cross_entropy(model, image, batch)
            for key, value in bits(nats, hole_cells(batch, *nats.shape[1:]).view_as(nats)).items():
                sums[key] += float(value) * len(image)
        return {key: value / count for key, value in sums.items()}

    @torch.no_grad()
    def preview(self) -> Image.Image:
        """Show photo, masked, its true structure and four sampled structures, decoded without texture."""
        model = folded(self.averaged.module).eval()
        image = self.val.tensor(range(min(6, len(self.val)))).to(self.device)
        mask = masks.centre_mask(self.size).to(self.device)
        true, codes, cond = self.given(model, image, mask.expand(len(image), -1, -1, -1))
        columns = [image, image * (1 - mask), self.vqvae.decode_structure(true)]
        codebook = self.vqvae.encoder.structure_quantiser.codebook
        for seed in range(4):
            noise = gumbel_noise([seed], codes[0].numel(), len(codebook)).expand(len(image), -1, -1)
            sampled = sample_cached(model, codebook, cond, noise, SamplingOptions())  # type: ignore[arg-type]
            columns.append(self.vqvae.decode_structure(self.vqvae.lookup(sampled.codes)))
        return grid([to_uint8(x) for x in columns])

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        if figures["bits_hole"] < float(self.best.bits):
            self.best.bits.fill_(figures["bits_hole"])
            network = folded(self.averaged.module)
            save_network(folder, "structure", network, self.size, step, figures, fingerprint(self.vqvae))


def started(preset: Preset) -> StructureGenerator:
    """Return a new structure generator whose first logits are the uniform guess."""
    model = StructureGenerator(preset.model.structure)
    with torch.no_grad():
        model.pixelcnn.logits.weight.mul_(0.1)
    return model


def bits(nats: Tensor, hole: Tensor) -> Metrics:
    """Return mean bits per code over all codes, inside the hole and outside of it."""
    nats = nats / math.log(2)
    inside = (nats * hole).sum() / hole.sum().clamp_min(1)
    outside = (nats * ~hole).sum() / (~hole).sum().clamp_min(1)
    return {"bits": nats.mean(), "bits_hole": inside, "bits_known": outside}
