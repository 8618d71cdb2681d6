"""Inpainter: a photo, a mask and seeds in; completions out, one by one."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from manifill.checkpoint import ModelError, load_structure, load_texture, load_vqvae, model_hash
from manifill.image import ImageError, Photo, Picture, compose, load_mask, load_photo, masked, to_model, to_uint8
from manifill.native import NativeSampler, kinds
from manifill.sampling import sample_in_pytorch
from manifill.structure import Sampled, SamplingOptions, StructureGenerator, gumbel_noise
from manifill.texture import TextureGenerator, hole_cells
from manifill.vqvae import VQVAE, untouched

AT_ONCE = 16  # structures drawn in one batch, where memory allows
KnownCodes = Literal["exact", "cells", "none"]


@dataclass(frozen=True)
class Completion:
    """One completed photo.

    `image` has the photo's size and its own pixels outside the hole; `painted` is the whole picture as the texture
    generator painted it and `structure` the drawn structure decoded alone, both at the model's size; `codes` (h, w)
    int64; `log_likelihood` is the mean over the hole's codes, in nats a code.
    """

    image: Image.Image
    painted: Image.Image
    structure: Image.Image
    codes: np.ndarray
    seed: int
    log_likelihood: float


class Completions:
    """The completions of one photo, made as they are asked for; sample k has the seed `seed + k`."""

    def __init__(
        self, inpainter: Inpainter, photo: Photo, hole: np.ndarray, seeds: Sequence[int], options: SamplingOptions,
        known_codes: KnownCodes,
    ) -> None:  # fmt: skip
        self.inpainter, self.photo, self.hole, self.seeds, self.options = inpainter, photo, hole, seeds, options
        self.known_codes: KnownCodes = known_codes

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Completion]:
        model = self.inpainter
        image, mask = to_model(self.photo, self.hole, model.image_size)
        image, mask = image.to(model.device), mask.to(model.device)
        cond, known = model.condition(image, mask), model.known(image, mask, self.known_codes)
        features = model.image_features(image, mask)
        at_once = model.at_once
        for start in range(0, len(self.seeds), at_once):
            seeds = self.seeds[start : start + at_once]
            sampled = model.sample(cond, seeds, self.options, known)
            scores = model.hole_likelihood(sampled, mask)
            for k, seed in enumerate(seeds):
                painted, structure = model.paint(features, sampled.codes[k : k + 1], mask)
                full = to_uint8(painted)[0]
                result, preview = compose(self.photo, self.hole, full), Image.fromarray(to_uint8(structure)[0])
                codes = sampled.codes[k].cpu().numpy()
                yield Completion(result, Image.fromarray(full), preview, codes, seed, float(scores[k]))

    def masked(self) -> Image.Image:
        """Return the photo with a white hole."""
        return masked(self.photo, self.hole)


class Inpainter:
    """A model that fills holes: `for c in Inpainter.from_pretrained()("photo.png", "mask.png"): c.image.show()`."""

    def __init__(
        self, vqvae: VQVAE, structure: StructureGenerator, texture: TextureGenerator, image_size: int,
        name: str = "", weights: str = "", device: str = "auto", dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}; expected torch.float32, torch.bfloat16 or None")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.vqvae = vqvae.to(self.device).eval()
        self.structure = structure.to(self.device).eval()
        self.texture = texture.to(self.device).eval()
        self.dtype = dtype or torch.float32  # of the condition network and, in the native sampler, the PixelCNN
        self.paint_dtype = dtype or (torch.bfloat16 if fast_bfloat16(self.device) else torch.float32)
        for network, precision in ((self.structure.condition, self.dtype), (self.texture, self.paint_dtype)):
            network.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image_size, self.name, self.weights = image_size, name, weights

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path = "faces-128", device: str = "auto", dtype: torch.dtype | None = None
    ) -> Inpainter:
        """Load a bundled model by name or a model folder. Raises ModelError when it cannot be used.

        `dtype` None draws structures in float32, so that a seed means the same codes everywhere, and paints in bfloat16
        where the processor multiplies it fast; torch.bfloat16 or torch.float32 does everything in that one.
        """
        folder = find_model(name_or_folder)
        vqvae, header = load_vqvae(folder)
        structure, _ = load_structure(folder, header.codebook)
        texture, _ = load_texture(folder, header.codebook)
        return cls(vqvae, structure, texture, header.image_size, folder.name, model_hash(folder), device, dtype)

    def __call__(
        self, image: Picture, mask: Picture | None = None, *, num_samples: int = 8, seed: int | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        invert_mask: bool = False, known_codes: KnownCodes = "exact",
    ) -> Completions:  # fmt: skip
        """Return the completions of a square photo, to be iterated over.

        `image` and `mask` are paths, PIL images or uint8 arrays; white is the hole, and without a mask the photo's
        transparent part. Sample k has seed `seed + k`; None or -1 draws a seed, to be read from the completions.
        `temperature`, `top_k` and `top_p` are the model's own unless given. `known_codes` says which structure codes
        are taken from the photo instead of being drawn: "exact" those that see nothing of the hole, "cells" all whose
        own 8x8 pixels are known (faster, but they were encoded beside a hole), "none" as in the paper.
        Raises ImageError, ValueError.
        """
        if known_codes not in ("exact", "cells", "none"):
            raise ValueError(f"known_codes is {known_codes!r}; expected exact, cells or none")
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}; expected 1 or more")
        photo = load_photo(image)
        h, w, _ = photo.rgb.shape
        if h != w:
            raise ImageError(f"{photo.name}: {w}x{h} pixels; only square photos are completed so far, crop it first")
        hole = load_mask(mask, photo, invert_mask)
        first = secrets.randbelow(2**31) if seed is None or seed == -1 else seed
        if first < 0:
            raise ValueError(f"seed is {first}; expected 0 or more, or -1 for a random one")
        seeds = range(first, first + num_samples)
        return Completions(self, photo, hole, seeds, self.options(temperature, top_k, top_p), known_codes)

    def options(self, temperature: float | None, top_k: int | None, top_p: float | None) -> SamplingOptions:
        """Return sampling options, the model's own where None."""
        c, given = self.structure.config, {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        own = SamplingOptions(c.temperature, c.top_k, c.top_p)
        return dataclasses.replace(own, **{k: v for k, v in given.items() if v is not None})

    @torch.no_grad()
    def condition(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return `cond` (N, 8n, h, w), float32, of pictures (N, 3, S, S): once a picture."""
        features = None
        if self.structure.config.condition_features:
            features = self.vqvae.encoder.structure_features(image * (1 - mask)).to(self.dtype)
        return self.structure.cond(image.to(self.dtype), mask.to(self.dtype), features).float()

    @torch.no_grad()
    def known(self, image: Tensor, mask: Tensor, mode: KnownCodes) -> Tensor | None:
        """Return the structure codes to clamp (N, h, w), -1 where one is to be drawn; None when all are."""
        if mode == "none":
            return None
        h, w = image.shape[2] // 8, image.shape[3] // 8
        fixed = untouched(mask) if mode == "exact" else ~hole_cells(mask, h, w).view(-1, h, w)
        if not fixed.any():
            return None
        encoder = self.vqvae.encoder
        codes = encoder.structure_quantiser.codes(encoder.structure_features(image * (1 - mask)))
        return torch.where(fixed, codes, -1)

    @torch.no_grad()
    def image_features(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the texture generator's features of the masked picture: once a picture."""
        return self.texture.image_features(image.to(self.paint_dtype), mask.to(self.paint_dtype))

    @cached_property
    def sampler(self) -> Callable[..., Sampled]:
        """The fastest sampler for this device: all return the same codes, near ties and bfloat16 apart."""
        codebook = self.vqvae.encoder.structure_quantiser.codebook
        if self.device.type == "cpu" and kinds():
            return NativeSampler(self.structure, codebook, self.dtype)
        return partial(sample_in_pytorch, self.structure, codebook)

    @property
    def at_once(self) -> int:
        """Structures drawn in one batch: at most AT_ONCE, fewer where they would take a quarter of the free memory."""
        c, side = self.structure.config, self.image_size // 8
        rows = c.layers * side * c.width * 20  # activations of two rows of both streams, with their concat_elu
        kept = side**2 * (c.attention_layers * c.heads * c.width + 3 * c.codebook_size)  # keys, values and noise
        return max(1, min(AT_ONCE, free_memory(self.device) // 4 // (4 * (rows + kept))))

    def sample(
        self, cond: Tensor, seeds: Sequence[int], options: SamplingOptions, known: Tensor | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Sampled:  # fmt: skip
        """Draw structures for the seeds in one batch; `cond` (1 or N, 8n, h, w), `known` as from `known`."""
        noise = gumbel_noise(seeds, cond.shape[-2] * cond.shape[-1], self.structure.config.codebook_size)
        return self.sampler(cond, noise.to(self.device), options, callback, known)

    @torch.no_grad()
    def paint(self, features: tuple[Tensor, Tensor], codes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return (painted pictures, structure previews), each (N, 3, S, S) in about [-1, 1], for codes (N, h, w)."""
        structure = self.vqvae.lookup(codes)
        return self.texture.paint(*features, structure, mask).float(), self.vqvae.decode_structure(structure)

    @staticmethod
    def hole_likelihood(sampled: Sampled, mask: Tensor) -> Tensor:
        """Return the mean log-likelihood of the codes inside the hole, in nats a code: (N,)."""
        hole = hole_cells(mask, *sampled.codes.shape[1:]).view(-1, *sampled.codes.shape[1:])
        return (sampled.log_likelihood * hole).sum((1, 2)) / hole.sum((1, 2))


def bundled() -> list[str]:
    """Return the names of the models that come with the package."""
    folder = resources.files("manifill") / "pretrained"
    return sorted(f.name for f in folder.iterdir() if (f / "vqvae.safetensors").is_file()) if folder.is_dir() else []


def find_model(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundled model or the folder itself. Raises ModelError when there is neither."""
    if str(name_or_folder) in bundled():
        return Path(str(resources.files("manifill") / "pretrained" / str(name_or_folder)))
    if not Path(name_or_folder).is_dir():
        raise ModelError(f"{name_or_folder}: no such model folder, nor a bundled model ({', '.join(bundled())})")
    return Path(name_or_folder)


def fast_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 products are faster than float32 ones there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and any(kind.endswith("bf16") for kind in kinds())


def free_memory(device: torch.device) -> int:
    """Return the free memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
