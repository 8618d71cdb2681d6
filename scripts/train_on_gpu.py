"""Trains one network of a bundled model on a GPU for a given time: what `manifill train` does, by the clock.

    python scripts/train_on_gpu.py STAGE --model START --pictures P.npy --masks M.npz --out OUT --until SECONDS

STAGE is vqvae, structure or texture. Pictures (uint8, N x size x size x 3) and masks stay on the GPU; batches are made,
mirrored, turned and scaled there. The learning rate falls along a cosine to nothing at `--until`, seconds after the
modification of the file `--clock`. START is a model folder whose weights are the first ones: another width of the
structure generator starts from them too (`widened`), and another VQ-VAE, that of OUT, has them carried into its codes.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manifill.config import StructureConfig
from manifill.data import geometry
from manifill.data.pictures import Pictures
from manifill.evaluate.features import LPIPS
from manifill.networks.checkpoint import (
    fingerprint,
    load_discriminator,
    load_texture,
    load_vqvae,
    read_header,
    save_network,
)
from manifill.networks.structure import StructureGenerator
from manifill.networks.vqvae import Encoding
from manifill.train import finetune
from manifill.train.distributed import Share
from manifill.train.loop import Metrics, Setup
from manifill.train.perceptual import perceptual_loss
from manifill.train.presets import preset as preset_named
from manifill.train.structure import StructureStage
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage
from manifill.train.weight_norm import fold

LOG = 15.0  # seconds between lines
# where a layer's old channels lie among the new: `one` set of them, `two` behind each other, or each head's own
OUTPUTS = {"conv2": "two", "from_cond": "two", "query": "keys", "key": "keys", "value": "values", "logits": "all"}
INPUTS = {
    "conv1": "two",
    "conv2": "two",
    "from_u": "two",
    "out": "values",
    "from_cond": "all",
    "input_u": "all",
    "input_above": "all",
    "input_left": "all",
}
CUDA = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Held:
    """Some pictures in memory, as the stages and `finetune` ask for them."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures, self.size = torch.from_numpy(pictures), pictures.shape[1]

    def __len__(self) -> int:
        return len(self.pictures)

    def tensor(self, index: range) -> Tensor:
        """Return pictures (n, 3, size, size) in [-1, 1]."""
        return self.pictures[list(index)].permute(0, 3, 1, 2).float() / 127.5 - 1

    batches = Pictures.batches


class Batches:
    """Random batches of pictures and masks on the device; half of the masks are from each of two pools."""

    def __init__(self, pictures: Path, masks: Path, count: int, fraction: float, seed: int) -> None:
        self.pictures = torch.from_numpy(np.load(pictures)).to(CUDA).permute(0, 3, 1, 2).contiguous()
        pools = np.load(masks)
        self.pools = [torch.from_numpy(pools[name]).to(CUDA)[:, None] for name in ("any", "other")]
        self.count, self.fraction, self.rng = count, fraction, np.random.default_rng(seed)

    def __call__(self) -> Share:
        """Return the next batch."""
        n = self.count
        image = self.pictures[torch.randint(len(self.pictures), (n,), device=CUDA)].float() / 127.5 - 1
        image = self.mirrored(image)
        if self.fraction:
            image = geometry.warp(image, geometry.maps(n, self.fraction, self.rng))
        halves = [pool[torch.randint(len(pool), (n // 2,), device=CUDA)].float() for pool in self.pools]
        mask = self.mirrored(torch.cat(halves))
        return Share(image.contiguous(memory_format=torch.channels_last), mask, 0, n)

    @staticmethod
    def mirrored(x: Tensor) -> Tensor:
        """Flip half of the rows left to right."""
        return torch.where(torch.rand(len(x), 1, 1, 1, device=CUDA) < 0.5, x.flip(3), x)


class PerceptualStage(TextureStage):
    """The painter's stage with VGG-16 as its feature network, and its learned distance (LPIPS) as one more loss."""

    vgg: LPIPS
    shares = (0.2, 0.5)  # weights of the perceptual and style losses, and of the learned distance

    def weights(self) -> dict[str, float]:
        """Return the weight of every loss."""
        return super().weights() | {"perceptual": self.shares[0], "lpips": self.shares[1]}

    def generator_losses(
        self, image: Tensor, mask: Tensor, painted: Tensor, composed: Tensor, truth: Encoding
    ) -> Metrics:
        """Return the losses of the generator, before their weights."""
        losses = super().generator_losses(image, mask, painted, composed, truth)
        a, b = (self.vgg.maps((x.float() + 1) * 127.5) for x in (composed, image))
        losses["perceptual"] = perceptual_loss(a, b)
        total = torch.zeros((), device=CUDA)
        for x, y, weight in zip(a, b, self.vgg.weights, strict=True):
            x, y = (z.float() / (z.float().square().sum(1, keepdim=True).sqrt() + 1e-4) for z in (x, y))
            total = total + ((x - y).square() * weight[None, :, None, None]).sum(1).mean()
        losses["lpips"] = total
        return losses


@torch.no_grad()
def widened(old: StructureGenerator, wanted: StructureConfig) -> StructureGenerator:
    """Return a structure generator of the PixelCNN width of `wanted` that predicts as `old` does, up to rounding.

    The old channels ignore the new ones at first; the new ones start at random and see everything.
    """
    new = StructureGenerator(wanted)
    new.condition.load_state_dict(old.condition.state_dict())
    m, wide, heads = old.config.width, wanted.width, wanted.heads
    d, v = m // 8, m // 2
    to_d, to_v = wide // 8, wide // 2
    one = torch.arange(m)
    two = torch.cat([one, one + wide])
    keys = torch.cat([torch.arange(d) + k * to_d for k in range(heads)])
    values = torch.cat([torch.arange(v) + k * to_v for k in range(heads)])
    places = {"one": one, "two": two, "keys": keys, "values": values, "all": slice(None)}
    for name, layer in new.pixelcnn.named_modules():
        if not isinstance(layer, torch.nn.Conv2d):
            continue
        source, last = old.pixelcnn.get_submodule(name), name.rpartition(".")[2]
        rows = OUTPUTS.get(last, "one")
        columns = INPUTS.get(last, "one")
        rows, columns = places[rows], places[columns]
        weight = torch.zeros_like(layer.weight[rows])
        weight[:, columns] = source.weight * (math.sqrt(to_d / d) if last == "query" else 1)
        if (
            last == "query"
        ):  # next to nothing of a head's new dimensions yet; weight normalisation divides by its length
            layer.weight.mul_(1e-3)
            layer.bias.zero_()
        layer.weight[rows] = weight
        layer.bias[rows] = source.bias * (math.sqrt(to_d / d) if last == "query" else 1)
    return new


def build(a: argparse.Namespace, held: Held) -> tuple[VQVAEStage | StructureStage | TextureStage, tuple[float, ...]]:
    """Return the stage and its highest learning rates."""
    settings = preset_named("faces-128")
    bf16 = torch.bfloat16 if CUDA.type == "cuda" else torch.float32
    if a.stage == "vqvae":
        settings = replace(settings, vqvae=replace(settings.vqvae, steps=a.steps, batch_size=a.batch))
        return VQVAEStage(Setup(settings, held, CUDA, bf16), load_vqvae(a.model)[0]), (a.rate or 8e-4,)
    vqvae = load_vqvae(a.out if (a.out / "vqvae.safetensors").exists() else a.model)[0].to(CUDA)
    if a.stage == "structure":
        wanted = replace(settings.model.structure, width=a.width, dropout=a.dropout, both_directions=True)
        same = replace(
            wanted, width=read_header(a.model, "structure").config["width"], both_directions=False, dropout=0.1
        )
        start = widened(finetune.init_network("structure", a.model, vqvae, held, same).cpu(), wanted)
        settings = replace(
            settings,
            model=replace(settings.model, structure=wanted),
            structure=replace(settings.structure, steps=a.steps, averaging=0.999),
        )
        return StructureStage(Setup(settings, held, CUDA, bf16), vqvae, start), (a.rate or 1e-3,)
    codes = read_header(a.model, "vqvae").codebook
    generator = load_texture(a.model, codes)[0]
    if fingerprint(vqvae) != codes:
        finetune.carry_texture(generator, finetune.translation(load_vqvae(a.model)[0], vqvae, held))
    discriminator = load_discriminator(a.model, codes)[0]
    settings = replace(
        settings, texture=replace(settings.texture, adversarial_ratio=a.adversarial, perturb=0.1, steps=a.steps)
    )
    stage = PerceptualStage(Setup(settings, held, CUDA, bf16), vqvae, generator, discriminator)
    stage.vgg = LPIPS("vgg", a.vgg, device=CUDA)
    stage.vgg.convolutions.to(memory_format=torch.channels_last)
    return stage, (a.rate or 3e-4, 1.5 * (a.rate or 3e-4))


def save(a: argparse.Namespace, stage: VQVAEStage | StructureStage | TextureStage, folder: Path, step: int) -> None:
    """Write the averaged weights in float16, the VQ-VAE's in float32: other networks are trained on its codes."""
    if isinstance(stage, VQVAEStage):
        save_network(folder, "vqvae", stage.shown, stage.val.size, step, stage.validate())
        return
    codebook = fingerprint(stage.vqvae)
    if isinstance(stage, StructureStage):
        save_network(folder, "structure", fold(stage.averaged.module), stage.size, step, {}, codebook, torch.float16)
        return
    save_network(folder, "texture", stage.shown, stage.size, step, {}, codebook, torch.float16)
    save_network(folder, "discriminator", fold(stage.discriminator), stage.size, step, {}, codebook, torch.float16)


def main() -> None:
    """Train until the time is over."""
    p = argparse.ArgumentParser()
    p.add_argument("stage", choices=("vqvae", "structure", "texture"))
    for name in ("--model", "--pictures", "--masks", "--out", "--clock", "--vgg"):
        p.add_argument(name, type=Path)
    p.add_argument("--until", type=float, required=True)
    for name, value in (
        ("--rate", 0.0),
        ("--adversarial", 1.0),
        ("--dropout", 0.1),
        ("--geometry", 0.6),
        ("--early", 0.3),
    ):
        p.add_argument(name, type=float, default=value)
    for name, value in (("--batch", 64), ("--width", 96), ("--steps", 4000), ("--seed", 0)):
        p.add_argument(name, type=int, default=value)
    a = p.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    clock = a.clock.stat().st_mtime if a.clock else time.time()
    held = Held(np.load(a.pictures, mmap_mode="r")[::16][:500].copy())
    batches = Batches(a.pictures, a.masks, a.batch, a.geometry, a.seed)
    stage, peaks = build(a, held)
    print(f"ready at {time.time() - clock:.1f} s", flush=True)
    start = time.time()
    length, logged, taken, early = max(1.0, clock + a.until - start), start, [], False
    step = 0
    while (done := (time.time() - start) / length) < 1:
        factor = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        for (optimiser, _), peak in zip(stage.rates, peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * factor
        torch.manual_seed(a.seed * 1_000_003 + step)  # a stage begins each share of a batch with the seed of the step
        taken.append(stage.step(batches()))
        step += 1
        if step in (5, 20) or time.time() - logged > LOG:
            means = stage.processes.means(taken)  # waits for the device
            now = time.time()
            words = ", ".join(f"{k} {v:.4g}" for k, v in means.items())
            print(
                f"{now - clock:.0f} s, step {step}, {len(taken) * a.batch / (now - logged):.0f} pictures/s: {words}",
                flush=True,
            )
            if not all(map(math.isfinite, means.values())):
                raise SystemExit("not finite")
            taken, logged = [], now
            if isinstance(stage, StructureStage):  # its share of backward readings goes by the steps to come
                stage.steps = max(1, round(step / max(done, 0.01)))
            if not early and done > a.early:
                save(a, stage, a.out.with_name(a.out.name + "-early"), step)
                early = True
    save(a, stage, a.out, step)
    print(f"saved at {time.time() - clock:.1f} s after {step} steps", flush=True)
    if isinstance(stage, VQVAEStage):
        print(stage.validate(), flush=True)
    stage.preview().save(a.out / f"{a.stage}.png")
    print(f"ended at {time.time() - clock:.1f} s", flush=True)


if __name__ == "__main__":
    main()
