"""Stage two: the structure generator (section 3.2), on the codes of a frozen VQ-VAE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from manifill.data.masks import centre_mask
from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import fingerprint, save_network
from manifill.networks.precision import exact_float32
from manifill.networks.structure import StructureGenerator, flip_marked
from manifill.networks.texture import hole_cells
from manifill.networks.vqvae import VQVAE
from manifill.train.distributed import Share
from manifill.train.dropout import whole_dropouts
from manifill.train.loop import Best, Metrics, Setup, Stage, average, schedule
from manifill.train.measure import bits, structure_metrics
from manifill.train.previews import first_pictures, show_structure
from manifill.train.weight_norm import fold, weight_normalise

VALIDATED, SEEN = 200, 50  # pictures to validate on, and at most of those that it is trained on
BACKWARDS = (0.5, 0.25)  # fraction of pictures read from right to left, until TURN of the steps and at the end
TURN = 0.7


class StructureStage(Stage):
    """Cross-entropy of the true structure codes, teacher-forced (Eq. 4); keeps the best averages by val bits."""

    name = "structure"
    kept_by = "bits_hole"  # the figure whose lowest value says which averages are the best

    def __init__(
        self, setup: Setup, vqvae: VQVAE, start: StructureGenerator | None = None, seen: Pictures | None = None
    ) -> None:
        sizes, o = setup.preset.model, setup.preset.structure
        super().__init__(setup, o)
        self.masks, self.seen, self.vqvae = o.masks, seen, vqvae.to(self.device)
        model = start or StructureGenerator(sizes.structure)
        if start is None:
            with torch.no_grad():  # its first logits are the uniform guess: log2 K bits at the first step, not more
                model.pixelcnn.logits.weight.mul_(0.1)
        self.dropouts = whole_dropouts(model)
        self.model = weight_normalise(model.requires_grad_(True)).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, o.averaging)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), weight_decay=o.weight_decay)
        self.network, self.best = self.processes.spread(self.model), Best()
        self.state |= {"model": self.model, "averaged": self.averaged, "optimiser": self.optimiser, "best": self.best}
        self.rates = [
            (self.optimiser, schedule(o.schedule, o.learning_rate, lambda: self.steps, sizes.structure.width))
        ]

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
            dropout.start, dropout.whole = share.start, share.whole  # its noise is drawn for the whole batch
        backwards = None  # which pictures are read from right to left, in a model that learns both: not in the paper
        if self.model.config.both_directions:
            backwards = choose_backwards(share, float(self.averaged.n_averaged) / self.steps)
        with self.setup.autocast():
            nats = self.nats(share, backwards)
        hole = hole_cells(share.mask, *nats.shape[1:]).view_as(nats)
        loss = (nats * torch.where(hole, 1.0, self.options.known_weight)).sum()  # summed: Adam hides the scale
        self.scaler.scale(loss * self.processes.count).backward()  # the processes' mean of this is the sum
        return bits(nats.detach(), hole)

    def nats(self, share: Share, backwards: Tensor | None) -> Tensor:
        """Return what is to be made small at every position of a share (n, h, w)."""
        return self.cross_entropy(self.network, share.image, share.mask, backwards)

    def cross_entropy(self, network: nn.Module, image: Tensor, mask: Tensor, backwards: Tensor | None = None) -> Tensor:
        """Return the negative log-likelihood of each true code in nats (N, h, w); `backwards` (N,) as for `network`."""
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
        """Return bits a code of held-out pictures and, `seen_...`, of some that it is trained on, at the same holes."""
        nats = partial(self.cross_entropy, self.averaged.module.eval())
        found = structure_metrics(nats, self.val, self.device, VALIDATED)
        if self.seen:
            seen = structure_metrics(nats, self.seen, self.device, SEEN)
            found |= {f"seen_{key}": value for key, value in seen.items()}
        return found

    @torch.no_grad()
    def preview(self) -> Image.Image:
        model, image = fold(self.averaged.module).eval(), first_pictures(self.val, 6, self.device)
        mask = centre_mask(image)
        codes, features = self.given(image, mask)
        return show_structure(self.vqvae, model, image, mask, codes, features)  # type: ignore[arg-type]

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        if self.best.improved(figures[self.kept_by]):
            network = fold(self.averaged.module)
            save_network(folder, "structure", network, self.size, step, figures, fingerprint(self.vqvae))


def choose_backwards(share: Share, done: float) -> Tensor:
    """Return which pictures of a share are read from right to left, (n,) bool, when a fraction of the steps is `done`.

    Half of them, and at the end of training a quarter: samples are read from left to right, so the last steps belong
    to that.
    """
    late = min(max(done - TURN, 0.0) / (1 - TURN), 1.0)
    fraction = BACKWARDS[0] + (BACKWARDS[1] - BACKWARDS[0]) * late
    return share.rows(torch.rand(share.whole, device=share.image.device) < fraction)
