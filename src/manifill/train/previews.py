"""Grids of fixed held-out pictures that show how far a stage is."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from manifill.config import SamplingOptions
from manifill.data.pictures import Pictures
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import compose
from manifill.networks.vqvae import VQVAE
from manifill.photos.tensors import grid, to_uint8
from manifill.sampling.naive import gumbel_noise
from manifill.sampling.native import fastest

SHOWN = 4  # sampled structures of each picture


def first_pictures(pictures: Pictures, count: int, device: torch.device) -> Tensor:
    """Return the first pictures, at most `count`: (N, 3, H, W) in [-1, 1]."""
    return pictures.tensor(range(min(count, len(pictures)))).to(device)


@torch.no_grad()
def show_vqvae(model: VQVAE, pictures: Pictures, device: torch.device) -> Image.Image:
    """Show pictures, their reconstruction, structure alone and texture alone."""
    image = first_pictures(pictures, 8, device)
    e = model.encode(image)
    columns = [image, model.decode(e.structure, e.texture), model.decode_structure(e.structure)]
    return grid([to_uint8(x) for x in (*columns, model.decode_texture(e.texture))])


@torch.no_grad()
def show_structure(
    vqvae: VQVAE, model: StructureGenerator, image: Tensor, mask: Tensor, codes: Tensor, features: Tensor | None
) -> Image.Image:
    """Show photo, masked, its true structure and SHOWN sampled structures, decoded without texture."""
    cond = model.condition(image, mask, features)
    columns = [image, image * (1 - mask), vqvae.decode_structure(vqvae.lookup(codes))]
    codebook = vqvae.encoder.structure_quantiser.codebook
    noise = gumbel_noise(range(SHOWN), codes[0].numel(), len(codebook)).to(cond.device)
    sample = fastest(model, codebook, cond.device)  # all in one batch: every seed's pictures
    sampled = sample(cond.repeat(SHOWN, 1, 1, 1), noise.repeat_interleave(len(image), 0), SamplingOptions())
    columns += [vqvae.decode_structure(vqvae.lookup(own)) for own in sampled.codes.chunk(SHOWN)]
    return grid([to_uint8(x) for x in columns])


@torch.no_grad()
def show_texture(
    painter: nn.Module, vqvae: VQVAE, image: Tensor, mask: Tensor, truth: Tensor, sampled: Tensor | None
) -> Image.Image:
    """Show masked, structure, result and photo; of `sampled` codes, where given, structure and result too."""
    columns = [image * (1 - mask)]
    for codes in (truth,) if sampled is None else (truth, sampled):
        columns += paint_codes(painter, vqvae, image, mask, codes)
    return grid([to_uint8(x) for x in (*columns, image)])


@torch.no_grad()
def paint_codes(painter: nn.Module, vqvae: VQVAE, image: Tensor, mask: Tensor, codes: Tensor) -> list[Tensor]:
    """Return what codes say: their structure alone, and the picture completed with it, (N, 3, H, W) each."""
    structure = vqvae.lookup(codes)
    painted = painter(image, mask, structure)
    return [vqvae.decode_structure(structure), compose(painted, image, mask)]
