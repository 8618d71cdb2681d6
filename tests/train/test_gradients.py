"""Losses and gradients of the three stages on the authors' small model, against numbers computed once and kept.

They were compared with the authors' running code before they were stored (worst relative difference 4e-6).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifill.data.masks import centre_mask
from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import load_discriminator, load_structure, load_texture, load_vqvae
from manifill.networks.vqvae import Encoding
from manifill.train.config import Preset
from manifill.train.distributed import Share
from manifill.train.loop import Setup
from manifill.train.presets import PRESETS
from manifill.train.structure import StructureStage
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage

REFERENCE = Path(__file__).parents[1] / "reference"
FILE, PAPER, CPU = REFERENCE / "gradients.json", replace(Preset(), model=PRESETS["tiny"].model), torch.device("cpu")


def lengths(**networks: nn.Module) -> dict[str, float]:
    """Return the length of the gradient of each network, and its product with fixed random numbers."""
    found = {}
    for name, network in networks.items():
        whole = torch.cat(
            [p.grad.double().flatten() for _, p in sorted(network.named_parameters()) if p.grad is not None]
        )
        direction = torch.from_numpy(np.random.default_rng(0).standard_normal(len(whole)))
        found |= {f"{name} length": float(whole.norm()), f"{name} product": float(whole @ direction)}
    return found


def losses(figures: dict) -> dict[str, float]:
    return {k: float(v[0] / v[1] if v.dim() else v) for k, v in figures.items()}


def computed(val: Pictures) -> Iterator[tuple[str, dict[str, float]]]:
    folder, given = REFERENCE / "model", np.load(REFERENCE / "activations.npz")
    image, mask = (torch.from_numpy(given[k].transpose(0, 3, 1, 2).copy()) for k in ("image", "mask"))
    share = Share(image, mask, 0, 1)
    vqvae, header = load_vqvae(folder)
    first = VQVAEStage(Setup(PAPER, val), vqvae)
    found, _ = first._learn(share)
    yield "vqvae", losses(found) | lengths(encoder=first.model.encoder, decoder=first.model.decoder)
    vqvae = load_vqvae(folder)[0].requires_grad_(False)
    second = StructureStage(Setup(PAPER, val), vqvae, load_structure(folder, header.codebook)[0])
    second.model.eval()  # without dropout, whose noise no two frameworks draw alike
    found = second._learn(share)
    yield "structure", losses(found) | lengths(pixelcnn=second.model.pixelcnn, condition=second.model.condition)
    painter, judge = load_texture(folder, header.codebook)[0], load_discriminator(folder, header.codebook)[0]
    torch.manual_seed(0)  # spectral normalisation begins with random vectors
    third = TextureStage(Setup(PAPER, val), vqvae, painter, judge)
    painted = third._paint(share)
    yield "painting", losses(painted.losses) | lengths(texture=third.model)
    third.discriminator.eval()  # without a power iteration
    yield "judging", losses(third._judge(share, painted.composed)) | lengths(discriminator=third.discriminator)


def test_losses_and_gradients(pictures: Path) -> None:
    wanted = json.loads(FILE.read_text())
    found = dict(computed(Pictures([pictures], 64, quiet=True)))
    assert found.keys() == wanted.keys()
    for stage, values in found.items():
        assert values == pytest.approx(wanted[stage], rel=1e-4), stage


def test_target_codes_are_those_of_inference_in_bfloat16_too(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, val = REFERENCE / "model", Pictures([pictures], 64, quiet=True)
    vqvae, header = load_vqvae(folder)
    image = val.tensor(range(len(val)))
    mask = centre_mask(image)
    wanted = vqvae.encode(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(vqvae.encode(image).texture_codes, wanted.texture_codes)  # what is to be avoided
        structure = load_structure(folder, header.codebook)[0]
        codes, _ = StructureStage(Setup(PAPER, val, CPU, torch.bfloat16), vqvae, structure).given(image, mask)
    assert torch.equal(codes, wanted.structure_codes)
    found = []

    def losses_with(_: nn.Module, composed: Tensor, truth: Encoding) -> tuple[Tensor, Tensor]:
        found.append(truth)
        return composed.mean(), composed.mean()

    monkeypatch.setattr("manifill.train.texture.feature_losses", losses_with)
    painter, judge = load_texture(folder, header.codebook)[0], load_discriminator(folder, header.codebook)[0]
    setup = Setup(PAPER, val, CPU, torch.bfloat16)
    TextureStage(setup, vqvae, painter, judge)._paint(Share(image, mask, 0, len(image)))
    assert torch.equal(found[0].structure_codes, wanted.structure_codes)
    assert torch.equal(found[0].texture_codes, wanted.texture_codes)
