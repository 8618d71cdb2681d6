"""Inpainter: a photo, a mask and seeds in; completions out, one by one."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import get_args

import psutil
import torch
from torch import Tensor

from manifill import hub
from manifill.choosing import Choice
from manifill.completions import Completion, Completions, Draw, KnownCodes, Preview, Request, Start, Work, together
from manifill.config import Fit
from manifill.filling import CROP, Filling
from manifill.networks.checkpoint import (
    ModelError,
    is_named,
    load_networks,
    weights_name,
)
from manifill.networks.discriminator import Discriminator
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator, hole_cells
from manifill.networks.vqvae import VQVAE, untouched
from manifill.photos.crops import Crop, dilated
from manifill.photos.mask import load_mask
from manifill.photos.photo import ImageError, Picture, load_photo
from manifill.sampling.naive import Sampled, SamplingOptions, gumbel_noise
from manifill.sampling.native import fast_bfloat16, fastest

AT_ONCE = 16  # structures drawn in one batch, where memory allows
__all__ = ["Completion", "Completions", "Inpainter", "KnownCodes", "Preview", "bundled", "find_model", "together"]


class Inpainter:
    """A model that fills holes: `for c in Inpainter.from_pretrained()("photo.png", "mask.png"): c.image.show()`."""

    def __init__(
        self, vqvae: VQVAE, structure: StructureGenerator, texture: TextureGenerator, image_size: int,
        name: str = "", weights: str = "", device: str = "auto", dtype: torch.dtype | None = None,
        discriminator: Discriminator | None = None,
    ) -> None:  # fmt: skip
        if dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}; expected torch.float32, torch.bfloat16 or None")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.vqvae = vqvae.to(self.device).eval()
        self.structure = structure.to(self.device).eval()
        self.texture = texture.to(self.device).eval()
        self.discriminator = None if discriminator is None else discriminator.to(self.device).eval()
        self.dtype = dtype or torch.float32  # of the condition network and, in the native sampler, the PixelCNN
        self.paint_dtype = dtype or (torch.bfloat16 if fast_bfloat16(self.device) else torch.float32)
        for network, precision in ((self.structure.condition, self.dtype), (self.texture, self.paint_dtype)):
            network.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image_size, self.name, self.weights = image_size, name, weights
        self.folder: Path | None = None  # that it was loaded from

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path = "faces-128", device: str = "auto", dtype: torch.dtype | None = None
    ) -> Inpainter:
        """Load a bundled model, a model folder or "user/repo" of the hub. Raises ModelError when it cannot be used.

        `dtype` None draws structures in float32, so that a seed means the same codes everywhere, and paints in bfloat16
        where the processor multiplies it fast; torch.bfloat16 or torch.float32 does everything in that one.
        """
        folder = find_model(name_or_folder)
        loaded = load_networks(folder)
        networks = {kind: network for kind, (network, _) in loaded.items()}
        weights = weights_name([(kind, header) for kind, (_, header) in loaded.items()])
        name = hub.title(str(name_or_folder)) if from_hub(name_or_folder) else folder.name
        made = cls(
            networks["vqvae"], networks["structure"], networks["texture"], loaded["vqvae"][1].image_size, name, weights,
            device, dtype, networks.get("discriminator"),
        )  # fmt: skip
        made.folder = folder
        return made

    def is_named(self, weights: str) -> bool:
        """Say whether `weights` names this model's, also as versions up to 0.1 named those of its files."""
        return weights == self.weights or (self.folder is not None and is_named(self.folder, weights))

    def __call__(
        self, image: Picture, mask: Picture | None = None, *, num_samples: int = 8, seed: int | None = None,
        temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
        invert_mask: bool = False, known_codes: KnownCodes = "exact", fit: Fit | None = None,
        of: int | None = None, choose: Choice = "diverse",
    ) -> Completions:  # fmt: skip
        """Return the completions of a photo of any size and shape, to be iterated over.

        `image` and `mask` are paths, PIL images or arrays; white is the hole, and without a mask the photo's
        transparent part. Sample k has seed `seed + k`; None or -1 draws a seed, to be read from the completions.
        `temperature`, `top_k` and `top_p` are the model's own unless given. `known_codes` says
        which structure codes are taken from the photo instead of being drawn: "exact" those that see nothing of the
        hole, "cells" all whose own 8x8 pixels are known (faster, but they were encoded beside a hole), "none" as in the
        paper. `fit` says how the hole is fitted to the model. With `of`, so many are drawn and `num_samples` of them
        kept: "diverse" ones by farthest-point selection over structure codes from the likeliest on, the "likely" by the
        likelihood of the hole's codes, the "realistic" by the discriminator's score. Raises ImageError, ValueError.
        """
        photo, fit = load_photo(image), fit or Fit()
        hole = dilated(load_mask(mask, photo, invert_mask), fit.dilate)
        self.check(num_samples, known_codes, of, choose)
        options = self.options(temperature, top_k, top_p)
        request = Request(photo, hole, seeds_from(seed, of or num_samples), options, known_codes, fit,
                          num_samples if of else None, choose)  # fmt: skip
        return Completions(self, request)

    def redraw(
        self, completion: Completion, part: Picture, *, num_samples: int = 8, seed: int | None = None
    ) -> Completions:
        """Return completions like this one but for `part`, a mask, of its hole, whose codes are drawn anew.

        All other codes and all pixels outside `part` are exactly the completion's. Raises ImageError, ValueError.
        """
        self.check(num_samples)
        region = load_mask(part, completion.request.photo) & completion.request.hole
        if not region.any():
            raise ImageError("the part to draw anew does not meet the hole")
        return self._from(completion, num_samples, seed, Start(completion, region))

    def near(
        self, completion: Completion, amount: float = 0.3, *, num_samples: int = 8, seed: int | None = None
    ) -> Completions:
        """Return completions near this one: the same at `amount` 0, as different as any at 1.

        The noise that would have drawn its codes is moved towards other noise, so that each is a sample of the model.
        Raises ValueError.
        """
        self.check(num_samples)
        if not 0 <= amount <= 1:
            raise ValueError(f"amount is {amount}; expected a number from 0 (the same) to 1 (as different as any)")
        return self._from(completion, num_samples, seed, Start(completion, amount=amount))

    def _from(self, completion: Completion, num_samples: int, seed: int | None, start: Start) -> Completions:
        seeds = seeds_from(seed, num_samples)
        return Completions(self, dataclasses.replace(completion.request, seeds=seeds, keep=None, start=start))

    def check(
        self, num_samples: int, known_codes: str = "exact", of: int | None = None, choose: str = "diverse"
    ) -> None:
        """Raise ValueError for what cannot be asked of this model."""
        if known_codes not in get_args(KnownCodes):
            raise ValueError(f"known_codes is {known_codes!r}; expected exact, cells or none")
        if num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}; expected 1 or more")
        if of is not None and of < num_samples:
            raise ValueError(f"of is {of}; expected at least the {num_samples} that are to be kept")
        if choose not in get_args(Choice):
            raise ValueError(f"choose is {choose!r}; expected diverse, likely or realistic")
        if of is not None and choose == "realistic" and self.discriminator is None:
            raise ValueError(f"the model {self.name} has no discriminator to choose realistic completions with")

    def work(self, request: Request, crops: Sequence[Crop]) -> Work:
        """Return the work that fills a photo's crops: what `together` drives."""
        return Filling(self, request, crops).work()

    def options(self, temperature: float | None, top_k: int | None, top_p: float | None) -> SamplingOptions:
        """Return sampling options, the model's own where None. Raises ValueError."""
        c = self.structure.config
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
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
        return fastest(self.structure, self.vqvae.encoder.structure_quantiser.codebook, self.device, self.dtype)

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
    def logits(self, codes: Tensor, cond: Tensor) -> Tensor:
        """Return the logits (N, K, h, w) that structure codes (N, h, w) are drawn from."""
        return self.structure.logits(self.vqvae.lookup(codes), cond)

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

    @torch.no_grad()
    def realism(self, composite: Tensor, mask: Tensor) -> float | None:
        """Return the discriminator's mean score of a completed picture (1, 3, S, S), None without a discriminator."""
        return None if self.discriminator is None else float(self.discriminator(composite, mask).mean())

    def answer(self, draws: Sequence[Draw]) -> list[Sampled]:
        """Draw the structures of several photos, those with the same options in batches of up to `at_once`."""
        found: dict[int, Sampled] = {}
        for options in dict.fromkeys(draw.options for draw in draws):
            alike = {k: draw for k, draw in enumerate(draws) if draw.options == options}
            sizes = [len(draw.noise) for draw in alike.values()]
            sampled = self.sample_batches(joined(list(alike.values())))
            parts = zip(sampled.codes.split(sizes), sampled.log_likelihood.split(sizes), strict=True)
            found |= {k: Sampled(*part) for k, part in zip(alike, parts, strict=True)}
        return [found[k] for k in range(len(draws))]

    def sample_batches(self, draw: Draw) -> Sampled:
        """Draw structures in batches of up to `at_once`."""
        parts, n, at_once = [], len(draw.noise), self.at_once
        for start in range(0, n, at_once):
            rows = slice(start, start + at_once)
            cond, known = (x if len(x) == 1 else x[rows] for x in (draw.cond, draw.known))
            parts.append(self.sampler(cond, draw.noise[rows].to(self.device), draw.options, None, known))
        likelihood = self.finite(torch.cat([p.log_likelihood for p in parts]), "structure generator")
        return Sampled(torch.cat([p.codes for p in parts]), likelihood)


def joined(draws: Sequence[Draw]) -> Draw:
    """Return several draws with the same options as one."""
    if len(draws) == 1:
        return draws[0]
    cond = torch.cat([d.cond.expand(len(d.noise), -1, -1, -1) for d in draws])
    known = torch.cat([d.known.expand(len(d.noise), -1, -1) for d in draws])
    return Draw(cond, known, torch.cat([d.noise for d in draws]), draws[0].options)


def seeds_from(seed: int | None, count: int) -> range:
    """Return `count` seeds from `seed` on, a random one for None and -1. Raises ValueError."""
    first = secrets.randbelow(2**31) if seed is None or seed == -1 else seed
    if not 0 <= first < 2**CROP:
        raise ValueError(f"seed is {first}; expected 0 to 2**{CROP} - 1, or -1 for a random one")
    return range(first, first + count)


def bundled() -> list[str]:
    """Return the names of the models that come with the package."""
    folder = resources.files("manifill") / "pretrained"
    return sorted(f.name for f in folder.iterdir() if (f / "vqvae.safetensors").is_file()) if folder.is_dir() else []


def find_model(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundled model, the folder itself, or a downloaded one: tried in this order.

    Only a str of the form "user/repo" or "user/repo@revision" is asked of the hub, with a line on stderr, and only
    where there is no folder `user` here; "hf://user/repo" always is. Raises ModelError when there is no such model.
    """
    if str(name_or_folder) in bundled():
        return Path(str(resources.files("manifill") / "pretrained" / str(name_or_folder)))
    if from_hub(name_or_folder):
        return hub.download(str(name_or_folder))
    if not Path(name_or_folder).is_dir():
        raise ModelError(f"{name_or_folder}: no such model folder, nor a bundled model ({', '.join(bundled())})")
    return Path(name_or_folder)


def from_hub(name_or_folder: str | Path) -> bool:
    """Say whether a model's name is one on the hub."""
    return isinstance(name_or_folder, str) and hub.is_repository(name_or_folder)


def free_memory(device: torch.device) -> int:
    """Return the free memory in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
