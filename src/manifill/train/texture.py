"""Stage three: the texture generator against its discriminator (section 3.3), with a frozen VQ-VAE.

The generator's loss is L1 (Eq. 8) + adversarial (Eq. 10) + 0.1 (structural + textural feature loss, Eq. 11): Eq. 12.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from manifill.data.masks import centre_mask
from manifill.networks.checkpoint import fingerprint, save_network
from manifill.networks.discriminator import Discriminator
from manifill.networks.precision import exact_float32
from manifill.networks.texture import TextureGenerator, compose
from manifill.networks.vqvae import VQVAE, Encoding
from manifill.train.adversary import Anchors
from manifill.train.distributed import Share
from manifill.train.loop import Best, Judge, Metrics, Setup, Stage, average, schedule
from manifill.train.losses import adversarial_loss, discriminator_loss, feature_losses
from manifill.train.measure import texture_metrics
from manifill.train.perceptual import perceptual_loss
from manifill.train.previews import first_pictures, paint_codes, show_texture
from manifill.train.sampled_codes import CodeSampler, neighbours, perturb, resample, targets
from manifill.train.weight_norm import fold, spectral_normalise


class Painted(NamedTuple):
    """What the generator made of a share: losses, composed pictures (n, 3, H, W), and what `_pull` returns."""

    losses: Metrics
    composed: Tensor
    lengths: Tensor


class TextureStage(Stage):
    """L1, adversarial and feature losses (Eq. 8 to 12): one generator step, then one discriminator step."""

    name = "texture"

    def __init__(
        self,
        setup: Setup,
        vqvae: VQVAE,
        generator: TextureGenerator | None = None,
        discriminator: Discriminator | None = None,
        pyramid: Callable[[Tensor], list[Tensor]] | None = None,
        sampler: CodeSampler | None = None,
        judge: Judge | None = None,
    ) -> None:
        sizes, o = setup.preset.model, setup.preset.texture
        if o.features in ("perceptual", "all") and pyramid is None:
            raise ValueError("the perceptual loss needs a feature network: name it with --perceptual")
        if o.sampled_codes and sampler is None:
            raise ValueError("sampled codes need a structure generator")
        super().__init__(setup, o)
        self.pyramid = pyramid  # feature maps of pictures (N, 3, H, W) in 0..255
        self.masks, self.sampler, self.judged_by, self.vqvae = o.masks, sampler, judge, vqvae.to(self.device)
        model = (generator or TextureGenerator(sizes.texture)).requires_grad_(True).train()
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        opponent = (discriminator or Discriminator(sizes.discriminator)).requires_grad_(True).train()
        self.discriminator = spectral_normalise(opponent) if o.discriminator_norm == "spectral" else opponent
        self.discriminator.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = average(self.model, o.averaging)
        self.shown: nn.Module = self.averaged.module if o.averaging else self.model  # what is validated and exported
        self.optimiser = torch.optim.Adam(self.model.parameters(), betas=(0.5, 0.999))
        self.opponent = torch.optim.Adam(self.discriminator.parameters(), betas=(0.5, 0.999))
        self.painter, self.judge = self.processes.spread(self.model), self.processes.spread(self.discriminator)
        self.anchors, self.best = Anchors().to(self.device), Best()
        self.state |= {"model": self.model, "averaged": self.averaged, "discriminator": self.discriminator}
        self.state |= {"optimiser": self.optimiser, "opponent": self.opponent}
        self.state |= {"anchors": self.anchors} if o.adversarial_ratio else {}
        self.state |= {"best": self.best} if judge else {}
        self.rates = [
            (self.optimiser, schedule(o.schedule, o.learning_rate, lambda: self.steps)),
            (self.opponent, schedule(o.schedule, o.discriminator_rate, lambda: self.steps)),
        ]
        self.near = neighbours(vqvae.encoder.structure_quantiser.codebook)  # which codes a perturbed one may become

    def step(self, own: Share) -> Sequence[Metrics]:
        own = own.to(self.device)
        # the generator's step first, against the discriminator as it was; then the discriminator's, on what was painted
        self.optimiser.zero_grad(set_to_none=True)
        painted = [self._paint(share) for share in self.processes.shares(own, self.painter)]
        self.scaler.step(self.optimiser)
        self.averaged.update_parameters(self.model)
        self.opponent.zero_grad(set_to_none=True)
        judged = []
        for share, done in zip(self.processes.shares(own, self.judge), painted, strict=True):
            self.discriminator.train(not judged)  # one power iteration a step, in its first share
            judged.append(self._judge(share, done.composed))
        self.discriminator.train()
        if self.options.adversarial_ratio:
            self.anchors.move(judged, [done.lengths for done in painted], self.processes)
        self.scaler.step(self.opponent)
        self.scaler.update()
        return [done.losses | scores for done, scores in zip(painted, judged, strict=True)]

    def _paint(self, share: Share) -> Painted:
        """Add the generator's gradients of a share."""
        image, mask = share.image, share.mask
        with self.setup.autocast():
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False), exact_float32:
                truth = self.vqvae.encode(image)  # the codes of inference: bfloat16 gives 2 and 10 % others
            # the true codes: that some are perturbed or sampled is not in the paper, and off unless asked for
            codes = perturb(truth.structure_codes, share, self.options.perturb, self.near)
            codes, sampled = resample(codes, truth.structure_codes, share, self.options.sampled_codes, self.sampler)
            painted = self.painter(image, mask, self.vqvae.lookup(codes))
            # the discriminator and the feature losses see what a user will: known pixels are the photo's (section 3.3)
            composed = compose(painted, image, mask)
            wanted = image  # L1 is on the whole output, known pixels included
            if self.options.sampled_codes:
                wanted, truth = targets(share, truth, codes, sampled, painted)
            losses = self.generator_losses(wanted, mask, painted, composed, truth)
        lengths = self._pull(painted, losses, sampled)
        return Painted({k: v.detach() for k, v in losses.items()}, composed.detach(), lengths)

    def _pull(self, painted: Tensor, losses: Metrics, sampled: Tensor) -> Tensor:
        """Add the gradients of the losses of `painted` pictures; return what `Anchors.pull` does, (0,) without it."""
        weights = self.weights()  # the total of Eq. 12
        scaled = {k: self.scaler.scale(weights[k] * v / self.processes.accumulate) for k, v in losses.items()}
        adversarial, others = scaled.pop("adversarial"), torch.stack(list(scaled.values())).sum()
        if not self.options.adversarial_ratio:
            (others + adversarial).backward()
            return torch.zeros(0, device=self.device)
        unit = self.scaler.get_scale() / (len(painted) * self.processes.accumulate)  # of a gradient at one picture
        return self.anchors.pull(painted, others, adversarial, self.options.adversarial_ratio, sampled, unit)

    def weights(self) -> dict[str, float]:
        """Return the weight of every loss of the generator (Eq. 12)."""
        o = self.options
        of_features = dict.fromkeys(("structural", "textural", "perceptual"), float(o.feature_weight))
        return {"l1": o.l1_weight, "adversarial": o.adversarial_weight} | of_features

    def generator_losses(
        self, image: Tensor, mask: Tensor, painted: Tensor, composed: Tensor, truth: Encoding
    ) -> Metrics:
        """Return the losses of the generator, before their weights."""
        losses = {"l1": F.l1_loss(painted.float(), image)}
        self.discriminator.eval().requires_grad_(False)  # its one power iteration a step belongs to its own step
        losses["adversarial"] = adversarial_loss(self.discriminator(composed, mask))
        self.discriminator.train().requires_grad_(True)
        kinds = self.options.features  # both are the paper's; the others are rows of Table 3
        if kinds in ("perceptual", "all"):
            assert self.pyramid is not None
            losses["perceptual"] = perceptual_loss(*(self.pyramid((x.float() + 1) * 127.5) for x in (composed, image)))
        if kinds not in ("perceptual", "none"):
            structural, textural = feature_losses(self.vqvae, composed, truth)
            losses |= {"structural": structural} if kinds != "textural" else {}
            losses |= {"textural": textural} if kinds != "structural" else {}
        return losses

    def _judge(self, share: Share, composed: Tensor) -> Metrics:
        """Add the discriminator's gradients of a share; return its loss and mean scores."""
        with self.setup.autocast():
            pictures = torch.cat([share.image, composed.to(share.image.dtype)])
            real, fake = self.judge(pictures, torch.cat([share.mask, share.mask])).chunk(2)
        loss = discriminator_loss(real, fake)
        self.scaler.scale(loss / self.processes.accumulate).backward()
        return {"discriminator": loss.detach(), "d_real": real.detach().mean(), "d_composed": fake.detach().mean()}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return figures of composites with centre holes and true structure codes."""
        found = texture_metrics(self.shown, self.vqvae, self.val, self.device)
        return found | (self.judged_by(self.completed, self.val, self.device) if self.judged_by else {})

    def completed(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return pictures (N, 3, H, W) whose holes are painted with the true structure codes."""
        return paint_codes(self.shown, self.vqvae, image, mask, self.vqvae.encode(image).structure_codes)[1]

    @torch.no_grad()
    def preview(self) -> Image.Image:
        image, sampled = first_pictures(self.val, 8, self.device), None
        mask = centre_mask(image)
        truth = self.vqvae.encode(image).structure_codes
        if self.sampler is not None:
            with self.setup.autocast():  # as in training
                sampled = self.sampler.codes(image, mask, truth, torch.arange(len(image)))
        return show_texture(self.shown, self.vqvae, image, mask, truth, sampled)

    def export(self, folder: Path, step: int, figures: Metrics, last: bool) -> None:
        """Write the networks: with a judge the best so far into `folder`, and those of the last step beside it."""
        if self.judged_by:
            if last:
                self._save(folder.with_name("last"), step, figures)
            if not self.best.improved(figures[self.judged_by.name]):
                return
        self._save(folder, step, figures)

    def _save(self, folder: Path, step: int, figures: Metrics) -> None:
        codebook = fingerprint(self.vqvae)
        save_network(folder, "texture", self.shown, self.size, step, figures, codebook)
        save_network(folder, "discriminator", fold(self.discriminator), self.size, step, figures, codebook)
