"""Every activation of the authors' networks, from their own weights: below 1e-4 of the activation's scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from manifill.networks.checkpoint import load_discriminator, load_structure, load_texture, load_vqvae
from manifill.networks.convert import convert
from manifill.train.losses import feature_losses
from manifill.train.vqvae import commitment_loss

REFERENCE = Path(__file__).parents[1] / "reference"


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


@pytest.fixture(scope="module")
def wanted() -> dict[str, np.ndarray]:
    return dict(np.load(REFERENCE / "activations.npz"))


@pytest.fixture(scope="module")
@torch.no_grad()
def computed(wanted: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Our activations in the layout of the reference (NHWC)."""
    folder = REFERENCE / "model"
    vqvae, header = load_vqvae(folder)
    structure, _ = load_structure(folder, header.codebook)
    texture, _ = load_texture(folder, header.codebook)
    discriminator, _ = load_discriminator(folder, header.codebook)
    image, mask = nchw(wanted["image"]), nchw(wanted["mask"])
    e = vqvae.encode(image)
    cond = structure.condition(image, mask)
    fl_s, fl_t = feature_losses(vqvae, image, e)
    images = {
        "enc_t": e.structure_features,
        "enc_b": e.texture_features,
        "quant_t": e.structure,
        "quant_b": e.texture,
        "rec": vqvae.decode(e.structure, e.texture),
        "cond": cond,
        "logits": structure.logits(e.structure, cond),
        "tex": texture(image, mask, e.structure),
        "dis": discriminator(image, mask),
    }
    plain = {
        "idx_t": e.structure_codes,
        "idx_b": e.texture_codes,
        "fl_s": fl_s,
        "fl_t": fl_t,
        "vq_loss": 0.25 * commitment_loss(e),
    }
    return {k: v.permute(0, 2, 3, 1) for k, v in images.items()} | plain


FLOATS = ("enc_t", "enc_b", "quant_t", "quant_b", "vq_loss", "rec", "cond", "logits", "tex", "dis", "fl_s", "fl_t")


@pytest.mark.parametrize("name", FLOATS)
def test_activation(name: str, computed: dict[str, Tensor], wanted: dict[str, np.ndarray]) -> None:
    expected = torch.from_numpy(wanted[name])
    error = (computed[name].reshape(expected.shape) - expected).abs().max()
    assert error < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", ["idx_t", "idx_b"])
def test_codes(name: str, computed: dict[str, Tensor], wanted: dict[str, np.ndarray]) -> None:
    assert np.array_equal(computed[name].numpy(), wanted[name])


def test_widths_are_read_from_the_checkpoint() -> None:
    sizes = json.loads((REFERENCE / "config.json").read_text())
    vqvae, header = load_vqvae(REFERENCE / "model")
    structure, _ = load_structure(REFERENCE / "model", header.codebook)
    v, s = vqvae.config, structure.config
    assert (v.width, v.residual_width, v.codebook_size, v.codebook_dim) == tuple(
        sizes[k] for k in ("vq", "vqres", "K", "D")
    )
    found = (s.width, s.layers, s.output_blocks, s.attention_layers, s.heads, s.condition_width)
    assert found == tuple(sizes[k] for k in ("s", "nres", "nout", "natt", "nhead", "cond"))


@pytest.mark.tensorflow
def test_conversion_of_the_real_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs the extra [convert]")
    out = tmp_path / "model"
    assert convert(REFERENCE, out, image_size=64) == ["vqvae", "structure", "texture", "discriminator"]
    for file in out.iterdir():
        ours, kept = load_file(file), load_file(REFERENCE / "model" / file.name)
        assert ours.keys() == kept.keys()
        assert all(torch.equal(ours[k], kept[k]) for k in ours)
