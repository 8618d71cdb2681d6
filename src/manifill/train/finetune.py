"""Starting from another model: which stages need training, and how weights are carried into another codebook.

Not in the paper. A structure generator speaks in the codes of the VQ-VAE that it was trained with. Where the new run
has another VQ-VAE, both look at the same pictures; that tells which old code each new one stands for, and how to
compute old structure features from new ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifill.config import DiscriminatorConfig, ModelConfig
from manifill.data.pictures import Pictures
from manifill.networks.atomic import write_atomic
from manifill.networks.checkpoint import fingerprint, load_discriminator, load_network, load_vqvae, present, read_header
from manifill.networks.discriminator import Discriminator
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.train.config import RunOptions
from manifill.train.diagnosis import vqvae_problems
from manifill.train.distributed import Processes
from manifill.train.measure import vqvae_metrics
from manifill.train.settings import same_sizes, saved_settings

LOST = 1.5  # dB by which a VQ-VAE may reconstruct new pictures worse than its own and still be kept
SEEN = 500  # pictures that two VQ-VAEs are compared on


def stages_to_train(
    stages: Sequence[str], val: Pictures, out: Path, wanted: ModelConfig, options: RunOptions, processes: Processes
) -> list[str]:
    """Return the stages to train: the VQ-VAE of `init_from` is kept where it serves the new pictures, and says so.

    It is kept when it is asked for with others and reconstructs held-out pictures about as well as its own, and when it
    is not asked for and `out` has none. Asked for alone, it is trained.
    """
    first, there = options.init_from, (out / "model" / "vqvae.safetensors").exists()
    asked = "vqvae" in stages
    if first is None or list(stages) == ["vqvae"] or saved_settings(out, "vqvae") or (there and not asked):
        return list(stages)
    if asked:
        vqvae, header = load_vqvae(first)
        same_sizes(vqvae, header, wanted.vqvae)
        serves, why = judge_vqvae(vqvae_metrics(vqvae.to(processes.device), val, processes.device, 200), header.figures)
        print(f"vqvae: {'kept' if serves else 'to be trained on'}, that of {first} {why}")
        if not serves:
            return list(stages)
    else:
        print(f"vqvae: taken over from {first}")
    if processes.first:
        take(first, out, ["vqvae"])
    processes.agree(0)  # nobody reads before it is written
    return [name for name in stages if name != "vqvae"]


def judge_vqvae(found: dict, own: dict) -> tuple[bool, str]:
    """Return whether a VQ-VAE serves pictures, from its figures on them and on its own, and why in words."""
    problems = vqvae_problems(found)
    before = f", its own at {own['psnr']:.1f} dB" if "psnr" in own else ""
    said = f"reconstructs the held-out pictures at {found['psnr']:.1f} dB{before}"
    return not problems and found["psnr"] >= own.get("psnr", 0.0) - LOST, "; ".join([said, *problems])


def take(first: Path, out: Path, names: Sequence[str]) -> None:
    """Copy network files of the model `first` into the run."""
    (out / "model").mkdir(parents=True, exist_ok=True)
    for name in names:
        with (first / f"{name}.safetensors").open("rb") as source:
            write_atomic(out / "model" / f"{name}.safetensors", partial(shutil.copyfileobj, source))


def complete_model(out: Path, first: Path | None) -> None:
    """Take over the networks that were not trained and belong to the run's VQ-VAE, so that its model is whole."""
    if first is None or not (out / "model" / "vqvae.safetensors").exists():
        return
    codebook, there = read_header(out / "model", "vqvae").codebook, present(out / "model")
    take(first, out, [n for n in present(first) if n not in there and read_header(first, n).codebook == codebook])


@dataclass(frozen=True)
class Translation:
    """How to read the structure codes of a new VQ-VAE in the words of an old one.

    `nearest` (K,) is the old code that most often lies where a new code does, `share` (K,) the new code's share of that
    old code's places, `linear` (D, D + 1) computes old features from new ones and a 1.
    """

    nearest: Tensor
    share: Tensor
    linear: Tensor


@torch.no_grad()
def translation(old: VQVAE, new: VQVAE, pictures: Pictures) -> Translation:
    """Compare two VQ-VAEs with codebooks of the same size on up to SEEN pictures and their mirror images."""
    device, k = new.encoder.structure_quantiser.codebook.device, len(new.encoder.structure_quantiser.codebook)
    together = torch.zeros(k, k, device=device)  # how often new code i and old code j lie at the same place
    old = old.to(device)
    for _, image in pictures.batches(SEEN, 25):
        image = image.to(device)
        for x in (image, image.flip(3)):
            codes = [m.encoder.structure_quantiser.codes(m.encoder.structure_features(x)) for m in (new, old)]
            together += torch.bincount((codes[0] * k + codes[1]).flatten(), minlength=k * k).view(k, k)
    nearest = together.argmax(1)
    places = together[torch.arange(k, device=device), nearest]
    share = (places + 0.5) / (together.sum(0)[nearest] + 1)
    # least squares, from new prototypes and a 1 to the old ones at the same places
    x = nn.functional.pad(new.encoder.structure_quantiser.codebook, (0, 1), value=1.0).double()
    y, weight = old.encoder.structure_quantiser.codebook.double(), together.double()
    square = x.t() @ (weight.sum(1, keepdim=True) * x)
    ridge = 1e-4 * square.diagonal().mean() * torch.eye(len(square), device=x.device, dtype=x.dtype)
    linear = torch.linalg.solve(square + ridge, x.t() @ weight @ y).t().float()
    return Translation(nearest.cpu(), share.cpu(), linear.cpu())  # networks are loaded there


def init_network(name: str, first: Path, vqvae: VQVAE, val: Pictures, wanted: Any) -> Any:
    """Return the structure or texture generator of the model `first`, carried over where that has other codes.

    Raises ModelError unless it has the sizes `wanted`.
    """
    old, header = load_vqvae(first)
    network = same_sizes(*load_network(first, name, header.codebook), wanted)
    if header.codebook != fingerprint(vqvae):
        print(f"{name}: carried over from the codes of {first} to this run's")
        carry = carry_structure if name == "structure" else carry_texture
        carry(network, translation(old, vqvae, val))
    return network


def init_discriminator(first: Path, wanted: DiscriminatorConfig) -> Discriminator | None:
    """Return the discriminator of the model `first`, which knows no codes; None, and says so, when it has none."""
    if "discriminator" not in present(first):
        print(f"{first}: has no discriminator, so it starts anew")
        return None
    return same_sizes(*load_discriminator(first, read_header(first, "vqvae").codebook), wanted)


@torch.no_grad()
def carry_structure(model: StructureGenerator, t: Translation) -> None:
    """Change the layers of a structure generator that read features and predict codes."""
    for conv in (model.pixelcnn.input_u, model.pixelcnn.input_above, model.pixelcnn.input_left):
        weight, constant = after(conv.weight, t.linear)
        weight[:, -1] += constant  # their last input is 1 wherever there is data
        conv.weight.copy_(weight)
    if model.condition.features is not None:
        carry_features(model.condition.features, t)
    logits = model.pixelcnn.logits
    assert logits.bias is not None
    logits.weight.copy_(logits.weight[t.nearest])
    logits.bias.copy_(logits.bias[t.nearest] + t.share.log())


@torch.no_grad()
def carry_texture(model: TextureGenerator, t: Translation) -> None:
    """Change the layer of a texture generator that reads features; at the picture's border it is off by a constant."""
    first = model.structure_branch[0]
    assert isinstance(first, nn.Conv2d)
    carry_features(first, t)


def carry_features(conv: nn.Conv2d, t: Translation) -> None:
    """Let a convolution, whose first inputs are features, read new ones."""
    weight, constant = after(conv.weight, t.linear)
    conv.weight.copy_(weight)
    assert conv.bias is not None
    conv.bias += constant.sum((1, 2))


def after(weight: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """Return a convolution's weights after the linear map of its first D inputs, and what the map's constant adds.

    (O, I, kh, kw) and (D, D + 1) -> (O, I, kh, kw) and (O, kh, kw).
    """
    d = len(linear)
    features = torch.einsum("oikl,ij->ojkl", weight[:, :d], linear)
    return torch.cat([features[:, :d], weight[:, d:]], dim=1), features[:, d]
