"""The networks of one model on one device: condition, sample, paint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self, Unpack, get_args

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from manifill.completion import Choice, KnownCodes, Request
from manifill.config import ModelError, Sampling, SamplingOptions, check_counts
from manifill.networks.checkpoint import is_named, load_networks, weights_name
from manifill.networks.domain import Domain
from manifill.networks.precision import exact_float32
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator, hole_cells
from manifill.networks.vqvae import VQVAE, untouched
from manifill.photos.crops import Crop
from manifill.photos.view import unmasked
from manifill.sampling.directions import log_likelihood
from manifill.sampling.naive import Sampled
from manifill.sampling.native import fast_bfloat16, fastest

AT_ONCE = 16  # structures sampled in one batch, where memory allows
DOUBTED = 4  # squares of a photo that are asked how familiar they are
BLANK = 0.02  # deviation of the colours, of which there are 2, under a hole that has been painted over


class Model:
    """The three networks that complete pictures. N pictures are (N, 3, S, S) in [-1, 1]; masks are 1 in
    the hole; codes lie on a grid of h x w cells of 8x8 pixels.
    """  # noqa: D205

    def __init__(
        self,
        vqvae: VQVAE,
        structure: StructureGenerator,
        texture: TextureGenerator,
        image_size: int,
        name: str = "",
        weights: str = "",
        device: str = "auto",
        dtype: torch.dtype | None = None,
        domain: Domain | None = None,
    ) -> None:
        if dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}; expected torch.float32, torch.bfloat16 or None")
        self.device = find_device(device)
        self.vqvae = vqvae.to(self.device).eval()
        self.structure = structure.to(self.device).eval()
        self.texture = texture.to(self.device).eval()
        self.dtype = dtype or torch.float32  # of the condition network and, in the native sampler, the PixelCNN
        self.paint_dtype = dtype or (torch.bfloat16 if fast_bfloat16(self.device) else torch.float32)
        for network, precision in ((self.structure.condition, self.dtype), (self.texture, self.paint_dtype)):
            network.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image_size, self.name, self.weights, self.domain = image_size, name, weights, domain
        self.folder: Path | None = None  # that it was loaded from
        self.parts: tuple[Model, Model] | None = None  # in its place, without and with a face in the square

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name or 'unnamed'} {self.weights}, {self.image_size} pixels, {self.device})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the sampler, which holds memory of C++; a copy makes one of its own when it first samples."""
        return {name: value for name, value in vars(self).items() if name != "sampler"}

    @classmethod
    def load(cls, folder: Path, name: str, device: str = "auto", dtype: torch.dtype | None = None) -> Self:
        """Load a model folder; `device` and `dtype` as for `Inpainter.from_pretrained`. Raises ModelError."""
        loaded = load_networks(folder)
        networks = {kind: network for kind, (network, _) in loaded.items()}
        weights = weights_name([(kind, header) for kind, (_, header) in loaded.items()])
        three = networks["vqvae"], networks["structure"], networks["texture"]
        header = loaded["vqvae"][1]
        model = cls(*three, header.image_size, name, weights, device, dtype, header.domain)
        model.folder = folder
        return model

    def is_named(self, weights: str) -> bool:
        """Say whether `weights` names this model's, also as versions up to 0.1 named those of its files."""
        return weights == self.weights or (self.folder is not None and is_named(self.folder, weights))

    def check(
        self, num_samples: int, known_codes: str = "exact", of: int | None = None, choose: str = "diverse"
    ) -> None:
        """Raise ValueError for what cannot be asked of this model."""
        if known_codes not in get_args(KnownCodes):
            raise ValueError(f"known_codes is {known_codes!r}; expected exact, cells or none")
        check_counts(num_samples, of)
        if choose not in get_args(Choice):
            raise ValueError(f"choose is {choose!r}; expected diverse, likely or coherent")
        if of is not None and choose == "coherent" and not self.structure.config.both_directions:
            raise ValueError(
                f"the model {self.name} reads codes from left to right alone; choosing coherent completions needs one "
                "that was trained in both directions"
            )

    def options(self, **given: Unpack[Sampling]) -> SamplingOptions:
        """Return sampling options, the model's own where None. Raises ValueError."""
        return dataclasses.replace(self.structure.config.sampling, **{k: v for k, v in given.items() if v is not None})

    def of(self, crop: Crop) -> Model:
        """Return the model that fills a crop."""
        return self if self.parts is None else self.parts[crop.face]

    @exact_float32
    @torch.no_grad()
    def condition_features(self, image: Tensor, mask: Tensor) -> Tensor | None:
        """Return the structure features (N, D, h, w) of pictures without their holes; None where `cond` has no use."""
        if not self.structure.config.condition_features:
            return None
        return self.vqvae.encoder.structure_features(image * (1 - mask))

    @exact_float32
    @torch.no_grad()
    def condition(self, image: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """Return `cond` (N, 8n, h, w), float32, of pictures (N, 3, S, S), with `condition_features` if at hand."""
        features = self.condition_features(image, mask) if features is None else features
        features = None if features is None else features.to(self.dtype)
        return self.structure.condition(image.to(self.dtype), mask.to(self.dtype), features).float()

    @exact_float32
    @torch.no_grad()
    def known(self, image: Tensor, mask: Tensor, mode: KnownCodes, features: Tensor | None = None) -> Tensor | None:
        """Return the structure codes to clamp (N, h, w), -1 where one is to be sampled; None when all are.

        Arguments are as for `condition`.
        """
        if mode == "none":
            return None
        h, w = image.shape[2] // 8, image.shape[3] // 8
        fixed = untouched(mask) if mode == "exact" else ~hole_cells(mask, h, w).view(-1, h, w)
        if not fixed.any():
            return None
        encoder = self.vqvae.encoder
        features = encoder.structure_features(image * (1 - mask)) if features is None else features
        return torch.where(fixed, encoder.structure_quantiser.codes(features), -1)

    @cached_property
    def sampler(self) -> Callable[..., Sampled]:
        """The fastest sampler for this device: all return the same codes, near ties and bfloat16 apart."""
        return fastest(self.structure, self.vqvae.encoder.structure_quantiser.codebook, self.device, self.dtype)

    @exact_float32
    def sample(self, cond: Tensor, known: Tensor | None, noise: Tensor, options: SamplingOptions) -> Sampled:
        """Sample structures in one batch.

        `cond` (1 or N, 8n, h, w), `known` (1 or N, h, w) as from `known`, `noise` (N, h*w, K) from `gumbel_noise`.
        """
        sampled = self.sampler(cond, noise.to(self.device), options, known)
        self.finite(sampled.log_likelihood, "structure generator")
        return sampled

    @property
    def at_once(self) -> int:
        """Structures sampled in one batch: at most AT_ONCE, fewer where they would take a quarter of free memory."""
        c, side = self.structure.config, self.image_size // 8
        rows = c.layers * side * c.width * 20  # activations of two rows of both streams, with their concat_elu
        kept = side**2 * (c.attention_layers * c.heads * c.width + 3 * c.codebook_size)  # keys, values and noise
        return max(1, min(AT_ONCE, free_memory(self.device) // 4 // (4 * (rows + kept))))

    @exact_float32
    @torch.no_grad()
    def logits(self, codes: Tensor, cond: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) that structure codes (N, h, w) are sampled from."""
        return self.structure.logits(self.vqvae.lookup(codes), cond)

    @exact_float32
    def log_likelihood(self, codes: Tensor, cond: Tensor, reading: int = 1) -> Tensor:
        """Return the log-likelihood (N, h, w) of every code as `directions.log_likelihood` does."""
        found = log_likelihood(self.structure, self.vqvae.encoder.structure_quantiser.codebook, codes, cond, reading)
        return self.finite(found, "structure generator")

    @exact_float32
    @torch.no_grad()
    def familiarity(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return how well pictures without a hole fit what this model has learnt: PSNR in dB (N,) and bits a code (N,).

        The first is that of the VQ-VAE's reconstruction where `mask` is 0, the second how much the codes under the mask
        surprise the structure generator, which sees the rest.
        """
        e = self.vqvae.encode(image)
        error = ((self.vqvae.decode(e.structure, e.texture).clamp(-1, 1) - image) ** 2).mean(1, keepdim=True) * (
            1 - mask
        )
        psnr = 10 * torch.log10(4 / (error.sum((1, 2, 3)) / (1 - mask).sum((1, 2, 3)).clamp(min=1)).clamp(min=1e-6))
        nats = F.cross_entropy(
            self.logits(e.structure_codes, self.condition(image, mask)), e.structure_codes, reduction="none"
        )
        hidden = hole_cells(mask, *nats.shape[1:]).view_as(nats)
        bits = (nats * hidden).sum((1, 2)) / hidden.sum((1, 2)).clamp(min=1) / math.log(2)
        return psnr, bits

    def doubts(self, request: Request) -> list[str]:
        """Say which of a photo's squares are unlike the pictures that the model which fills them was trained on.

        Faces are not asked about, as the detector has found them; of many squares the largest are.
        """
        strange: dict[str, str] = {}
        for crop in sorted((c for c in request.crops if not c.face), key=lambda c: -c.side)[:DOUBTED]:
            here = self.of(crop)
            domain = here.domain
            if domain is None or domain.least_psnr is None:
                continue
            low, mask = unmasked(crop, request.photo.rgb, request.hole, here.image_size)
            psnr, bits = (float(v) for v in here.familiarity(low.to(here.device), mask.to(here.device)))
            inside = F.max_pool2d(1 - mask, 5, 1, 2) == 0  # scaling down mixes in what is beside the hole
            told = bool(low[inside.expand_as(low)].std() > BLANK)  # else the photo's own pixels are painted over
            if psnr < domain.least_psnr or (told and domain.most_bits is not None and bits > domain.most_bits):
                strange[here.name] = f"{here.name} knows {domain.subject}, and this photo is unlike them: expect little"
        return list(strange.values())

    @torch.no_grad()
    def image_features(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the texture generator's features of the masked picture: once a picture."""
        return self.texture.image_features(image.to(self.paint_dtype), mask.to(self.paint_dtype))

    @torch.no_grad()
    def paint(self, features: tuple[Tensor, Tensor], codes: Tensor, mask: Tensor) -> Tensor:
        """Return painted pictures (N, 3, S, S) in (-1, 1) for structure codes (N, h, w)."""
        painted = self.texture.paint(*features, self.vqvae.lookup(codes), mask).float()
        return self.finite(painted, "texture generator")

    def finite(self, numbers: Tensor, network: str) -> Tensor:
        """Return what a network has computed. Raises ModelError where it is not finite: its weights are at fault."""
        if not numbers.isfinite().all():
            raise ModelError(f"{self.folder or self.name}: the {network} computes numbers that are not finite")
        return numbers

    @torch.no_grad()
    def decode_structure(self, codes: Tensor) -> Tensor:
        """Return pictures (N, 3, S, S), about [-1, 1], of structure codes (N, h, w) alone."""
        return self.vqvae.decode_structure(self.vqvae.lookup(codes))


def find_device(name: str) -> torch.device:
    """Return the device of this name, for "auto" a GPU where there is one. Raises ValueError for one that is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise ValueError("it holds no numbers")
        torch.zeros(1, device=device)
    except Exception as error:  # of whatever kind a device has
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        there = [*(f"cuda:{k}" for k in range(count)), *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
        why = "" if count or not name.startswith("cuda") else f"; PyTorch {torch.__version__} finds no CUDA GPU"
        raise ValueError(f"device is {name!r}; expected auto, {', '.join(there)}{why}") from error
    return device


def free_memory(device: torch.device) -> int:
    """Return the free memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
