"""Stage two: the structure generator (section 3.2), on the codes of a frozen VQ-VAE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from manifill.data import masks
from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import fingerprint, save_network
from manifill.networks.precision import exact_float32
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import hole_cells
from manifill.networks.vqvae import VQVAE
from manifill.train.config import Preset
from manifill.train.directions import choose_backwards, flip_marked
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.dropout import whole_dropouts
from manifill.train.loop import Best, Metrics, autocast, average, scaler, schedule
from manifill.train.previews import first_pictures, show_structure
from manifill.train.weight_norm import fold, weight_normalise

VALIDATED, SEEN = 200, 50  # pictures to validate on, and at most of those that it is trained on


class Predictor(nn.Module):
    """Structure and masked picture to logits in one call, which is what processes spread and torch.compile compiles."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        structure: Tensor,
        image: Tensor,
        mask: Tensor,
        features: Tensor | None,
        backwards: Tensor | None = None,
    ) -> Tensor:
        """Return logits (N, K, h, w); the arguments are those of StructureGenerator's `logits` and `cond`.

        `backwards` (N,) bool marks the pictures that are read from right to left, whose `structure` comes flipped; so
        are their logits.
        """
        cond = flip_marked(self.model.cond(image, mask, features), backwards)
        return self.model.logits(structure, cond, None if backwards is None else 1.0 - 2.0 * backwards.float())


class StructureStage:
    """Cross-entropy of the true structure codes, teacher-forced (Eq. 4); keeps the best averages by val bits."""

    name = "structure"
    kept_by = "bits_hole"  # the figure whose lowest value says which averages are the best

    def __init__(
        self,
        preset: Preset,
        vqvae: VQVAE,
        val: Pictures,
        device: torch.device,
        precision: torch.dtype,
        start: StructureGenerator | None = None,
        processes: Processes = ALONE,
        seen: Pictures | None = None,
    ) -> None:
        self.options, self.val, self.device, self.precision = preset.structure, val, device, precision
        self.seen, self.steps = seen, self.options.steps
        self.processes, self.scaler = processes, scaler(device, precision)
        self.vqvae, self.size, self.masks = vqvae.to(device), preset.model.image_size, self.options.masks
        model = start or new_generator(preset)
        self.dropouts = whole_dropouts(model)
        self.model = weight_normalise(model.requires_grad_(True)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, self.options.averaging)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), weight_decay=self.options.weight_decay)
        self.network = processes.spread(Predictor(self.model))
        self.best = Best()
        self.state = {
            "model": self.model,
            "averaged": self.averaged,
            "optimiser": self.optimiser,
            "best": self.best,
        }
        if self.scaler.is_enabled():
            self.state["scaler"] = self.scaler
        o, width = self.options, preset.model.structure.width
        self.rates = [(self.optimiser, schedule(o.schedule, o.learning_rate, lambda: self.steps, width))]

    def step(self, own: Share) -> Sequence[Metrics]:
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        found = [self._learn(share) for share in self.processes.shares(own.to(self.device), self.network)]
        if self.options.clip:
            self.scaler.unscale_(self.optimiser)
            codes = own.whole * (self.size // 8) ** 2  # the loss is a sum over so many, and so is its gradient
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip * codes)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.averaged.update_parameters(self.model)
        return found

    def _learn(self, share: Share) -> Metrics:
        """Add the gradients of a share; return its bits."""
        for dropout in self.dropouts:
            dropout.start, dropout.whole = share.start, share.whole
        with autocast(self.device, self.precision):
            nats = self.nats(share, self._backwards(share))
        hole = hole_cells(share.mask, *nats.shape[1:]).view_as(nats)
        loss = (nats * torch.where(hole, 1.0, self.options.known_weight)).sum()  # summed: Adam hides the scale
        self.scaler.scale(loss * self.processes.count).backward()  # the processes' mean of this is the sum
        return bits(nats.detach(), hole)

    def nats(self, share: Share, backwards: Tensor | None) -> Tensor:
        """Return what is to be made small at every position of a share (n, h, w)."""
        return self.cross_entropy(self.network, share.image, share.mask, backwards)

    def _backwards(self, share: Share) -> Tensor | None:
        """Return which pictures are read from right to left, (n,) bool; None for a model of one direction."""
        if not self.model.config.both_directions:
            return None
        return choose_backwards(share, float(self.averaged.n_averaged) / self.steps)

    def cross_entropy(self, network: nn.Module, image: Tensor, mask: Tensor, backwards: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of every true code in nats (N, h, w); `network` is a Predictor.

        Pictures that `backwards` (N,) marks are read from right to left.
        """
        codes, features = self.given(image, mask)
        # teacher forcing: the true codes go in, all at once; the PixelCNN's shifts hide each from its own prediction
        read = flip_marked(codes, backwards)
        logits = network(self.vqvae.lookup(read), image, mask, features, backwards)
        nats = F.cross_entropy(logits.float(), read, reduction="none")
        return flip_marked(nats, backwards)

    @exact_float32
    @torch.no_grad()
    def given(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the true structure codes and, where the model wants them, the features of the masked pictures."""
        encoder = self.vqvae.encoder
        with torch.autocast(self.device.type, enabled=False):  # the codes of inference: bfloat16 gives 2 % others
            codes = encoder.structure_quantiser.codes(encoder.structure_features(image))
            wanted = self.model.config.condition_features
            return codes, encoder.structure_features(image * (1 - mask)) if wanted else None

    def validate(self) -> Metrics:
        """Return bits per code with centre holes, over all codes, inside the hole and outside; held-out and seen.

        The latter, `seen_...`, are those of pictures it is trained on, at the same holes, where there are any.
        """
        found = self._bits_of(self.val, VALIDATED)
        if self.seen:
            found |= {f"seen_{key}": value for key, value in self._bits_of(self.seen, SEEN).items()}
        return found

    @torch.no_grad()
    def _bits_of(self, pictures: Pictures, limit: int) -> Metrics:
        network = Predictor(self.averaged.module.eval())
        sums, count = {"bits": 0.0, "bits_hole": 0.0, "bits_known": 0.0}, min(limit, len(pictures))
        for _, image, mask in self.batches(pictures, count):
            nats = self.cross_entropy(network, image, mask)
            for key, (total, codes) in bits(nats, hole_cells(mask, *nats.shape[1:]).view_as(nats)).items():
                sums[key] += float(total / codes.clamp_min(1)) * len(image)
        return {key: value / count for key, value in sums.items()}

    def batches(self, pictures: Pictures, count: int) -> Iterator[tuple[range, Tensor, Tensor]]:
        """Yield the first `count` pictures, twenty at a time, with their numbers and centre holes."""
        mask = masks.centre_mask(self.size).to(self.device)
        for start in range(0, count, 20):
            numbers = range(start, min(start + 20, count))
            image = pictures.tensor(numbers).to(self.device)
            yield numbers, image, mask.expand(len(image), -1, -1, -1)

    @torch.no_grad()
    def preview(self) -> Image.Image:
        model, image = fold(self.averaged.module).eval(), first_pictures(self.val, 6, self.device)
        mask = masks.centre_mask(self.size).to(self.device).expand(len(image), -1, -1, -1)
        codes, features = self.given(image, mask)
        return show_structure(self.vqvae, model, image, mask, codes, features)  # type: ignore[arg-type]

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        figure = figures[self.kept_by]
        if figure < float(self.best.lowest):
            self.best.lowest.fill_(figure)
            network = fold(self.averaged.module)
            save_network(folder, "structure", network, self.size, step, figures, fingerprint(self.vqvae))


def new_generator(preset: Preset) -> StructureGenerator:
    """Return a new structure generator whose first logits are the uniform guess."""
    model = StructureGenerator(preset.model.structure)
    with torch.no_grad():  # log2 K bits at the first step, not more
        model.pixelcnn.logits.weight.mul_(0.1)
    return model


def bits(nats: Tensor, hole: Tensor) -> Metrics:
    """Return bits over all codes, inside the hole and outside of it: each their sum and the number of codes (2,)."""
    nats = nats / math.log(2)
    places = {"bits": torch.ones_like(hole), "bits_hole": hole, "bits_known": ~hole}
    return {key: torch.stack([(nats * place).sum(), place.sum().float()]) for key, place in places.items()}
