"""Inpainter: a photo, a mask and seeds in; completions out, one by one."""

from __future__ import annotations

import dataclasses
import operator
import secrets
import warnings
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Self, Unpack, get_args

import numpy as np
import torch
from PIL import Image

from manifill import hub
from manifill.completion import SEED_BITS, Choice, Completion, Event, KnownCodes, Preview, Request, Start, shown
from manifill.config import Fit, Sampling, SamplingOptions
from manifill.model import Model
from manifill.networks.checkpoint import ModelError
from manifill.photos.crops import Crop, dilated, plan
from manifill.photos.decode import ImageError, Picture
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo, load_photo
from manifill.photos.tensors import grid
from manifill.pipeline import Sample, complete

__all__ = ["Completion", "Completions", "Inpainter", "KnownCodes", "Preview", "bundled", "find_model"]


class Inpainter(Model):
    """A model that fills holes. Load it with `from_pretrained`, then call it with a photo and a mask.

    A photo or a mask is a path, bytes, an open file, a PIL image, a numpy array or a tensor (see `photos.arrays`).
    White is the hole. All pixels outside it stay as they are, bit for bit.

    Example:
        >>> from manifill import Inpainter
        >>> inpainter = Inpainter.from_pretrained("faces-128")
        >>> for completion in inpainter("photo.png", "mask.png", num_samples=4, seed=0):
        ...     completion.image.save(f"{completion.seed}.png")

    """

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path = "faces-128", device: str = "auto", dtype: torch.dtype | None = None
    ) -> Self:
        """Load a model.

        Args:
            name_or_folder: A bundled model ("faces-128", "scenes-128"), a model folder or "user/repo" of the hub.
            device: "auto", "cpu", "cuda", ...
            dtype: None samples structures in float32, so that a seed means the same codes everywhere, and paints in
                bfloat16 where the processor multiplies it fast; torch.bfloat16 or torch.float32 is used for all.

        Returns:
            The model, ready to be called.

        Raises:
            ModelError: There is no such model, or it cannot be used.

        """
        folder = find_model(name_or_folder)
        name = hub.title(str(name_or_folder)) if from_hub(name_or_folder) else folder.name
        return cls.load(folder, name, device, dtype)

    def __call__(
        self,
        image: Picture | Photo,
        mask: Picture | None = None,
        *,
        num_samples: int = 8,
        seed: int | None = None,
        invert_mask: bool = False,
        known_codes: KnownCodes = "exact",
        fit: Fit | None = None,
        of: int | None = None,
        choose: Choice = "diverse",
        **sampling: Unpack[Sampling],
    ) -> Completions:
        """Complete a photo of any size and shape in many ways.

        Args:
            image: The photo.
            mask: White, or paint on a transparent layer (`photos.mask`); None takes the photo's transparent part.
            num_samples: How many completions, 1 or more.
            seed: Sample k has seed `seed + k`. None or -1 takes a random one, to be read from the completions.
            invert_mask: Black is the hole.
            known_codes: The structure codes that are taken from the photo: "exact" those that see nothing of the hole,
                "cells" all whose own 8x8 pixels are known (faster, but encoded beside a hole), "none" as in the paper.
            fit: How the hole is fitted to the model.
            of: Sample so many and keep `num_samples` of them.
            choose: Which are kept: "diverse" ones by farthest-point selection over structure codes from the likeliest
                on, the "likely" by the likelihood of the hole's codes, the "coherent" by that of a reading from right
                to left, which a model of both directions knows.
            **sampling: `temperature` (above 0; smaller is likelier and less diverse), `top_k` (sample among the k
                likeliest codes, 0 for all), `top_p` (among the likeliest of this probability); the model's own where
                not given.

        Returns:
            The completions, made one by one as they are iterated over.

        Raises:
            ImageError: The photo or the mask cannot be read, or there is no hole.
            ValueError: A number is out of its range.

        """
        photo, fit = load_photo(image), fit or Fit()
        notes: list[str] = []
        hole = dilated(load_mask(mask, photo, invert_mask, notes), fit.dilate)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        self.check(num_samples, known_codes, of, choose)
        options = self.options(**sampling)
        crops, seeds = plan(hole, self.image_size, fit), seeds_from(seed, of or num_samples)
        keep = num_samples if of else None
        said = (*photo.notes, *notes)
        return Completions(
            self, Request(photo, hole, crops, seeds, options, known_codes, fit, keep, choose, notes=said)
        )

    def redraw(
        self, completion: Completion, part: Picture, *, num_samples: int = 8, seed: int | None = None
    ) -> Completions:
        """Sample a part of a completion's hole anew and keep the rest.

        Args:
            completion: What to go on from.
            part: A mask, white where codes are sampled anew; what lies outside the hole is ignored.
            num_samples: How many.
            seed: As in a call.

        Returns:
            Completions with the same codes elsewhere; all pixels outside `part` are exactly the completion's.

        Raises:
            ImageError: `part` cannot be read or does not meet the hole.
            ValueError: A number is out of its range.

        """
        self.check(num_samples)
        notes: list[str] = []
        region = load_mask(part, completion.request.photo, notes=notes) & completion.request.hole
        for note in notes:
            warnings.warn(note, stacklevel=2)
        if not region.any():
            raise ImageError("the part to draw anew does not meet the hole")
        return self._from(completion, num_samples, seed, Start(completion, region), notes)

    def near(
        self, completion: Completion, amount: float = 0.3, *, num_samples: int = 8, seed: int | None = None
    ) -> Completions:
        """Sample completions near this one, by moving its noise towards other noise: each is a sample of the model.

        Args:
            completion: What to go on from.
            amount: 0 is the same, 1 as different as any.
            num_samples: How many.
            seed: As in a call.

        Returns:
            Completions of the same photo and hole.

        Raises:
            ValueError: A number is out of its range.

        """
        self.check(num_samples)
        if not 0 <= amount <= 1:
            raise ValueError(f"amount is {amount}; expected a number from 0 (the same) to 1 (as different as any)")
        return self._from(completion, num_samples, seed, Start(completion, amount=amount))

    def _from(
        self, completion: Completion, num_samples: int, seed: int | None, start: Start, notes: Sequence[str] = ()
    ) -> Completions:
        changes = {"seeds": seeds_from(seed, num_samples), "keep": None, "start": start, "notes": tuple(notes)}
        return Completions(self, dataclasses.replace(completion.request, **changes))

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
            raise ValueError(f"choose is {choose!r}; expected diverse, likely or coherent")
        if of is not None and choose == "coherent" and not self.structure.config.both_directions:
            raise ValueError(
                f"the model {self.name} reads codes from left to right alone; choosing coherent completions needs one "
                "that was trained in both directions"
            )

    def options(self, **given: Unpack[Sampling]) -> SamplingOptions:
        """Return sampling options, the model's own where None. Raises ValueError."""
        return dataclasses.replace(self.structure.config.sampling, **{k: v for k, v in given.items() if v is not None})


class Completions:
    """The completions of one photo, made as they are asked for; sample k has the seed `seed + k`."""

    def __init__(self, inpainter: Inpainter, request: Request) -> None:
        self.inpainter, self.request = inpainter, request

    def __repr__(self) -> str:
        h, w = self.hole.shape
        about = f"{w}x{h} pixels, {self.hole.mean():.1%} hole, seeds {self.seeds[0]} to {self.seeds[-1]}"
        return f"Completions({len(self)} of {self.photo.name}, {about})"

    def __len__(self) -> int:
        return self.request.keep or len(self.request.seeds)

    def __iter__(self) -> Iterator[Completion]:
        return (event for event in self.events() if isinstance(event, Completion))

    def events(self, sample: Sample | None = None) -> Iterator[Event]:
        """Yield structures and completions as `pipeline.complete` does; those that are kept, when all are there."""
        everything = complete(self.inpainter, self.request, sample)
        if self.request.keep is None:
            yield from everything
            return
        found = [event for event in everything if isinstance(event, Completion)]
        for index, k in enumerate(self.chosen(found)):
            yield Preview(index, found[k].seed, found[k].structure)
            yield dataclasses.replace(found[k], index=index)

    def chosen(self, found: Sequence[Completion]) -> list[int]:
        """Return which of all completions to keep, the best or, of diverse ones, the likeliest first."""
        likely = best([c.log_likelihood for c in found], len(self))
        if self.request.choose == "likely":
            return likely
        if self.request.choose == "coherent":
            return best([c.coherence for c in found if c.coherence is not None], len(self))
        codes = torch.from_numpy(np.stack([c.codes for c in found])).flatten(0, 1)
        features = self.inpainter.vqvae.lookup(codes.to(self.inpainter.device)).reshape(len(found), -1)
        return farthest(features.cpu().numpy(), likely[0], len(self))

    @property
    def photo(self) -> Photo:
        """The photo."""
        return self.request.photo

    @property
    def hole(self) -> np.ndarray:
        """What is filled, bool (H, W)."""
        return self.request.hole

    @property
    def crops(self) -> Sequence[Crop]:
        """The squares that are completed."""
        return self.request.crops

    @property
    def notes(self) -> Sequence[str]:
        """The warnings about photo and mask, in words."""
        return self.request.notes

    @property
    def options(self) -> SamplingOptions:
        """How structures are sampled."""
        return self.request.options

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds that are sampled."""
        return self.request.seeds

    def masked(self) -> Image.Image:
        """Return the photo with a white hole, for looking at."""
        return Image.fromarray(np.where(self.hole[..., None], np.uint8(255), self.photo.rgb))

    def grid(self) -> Image.Image:
        """Sample all completions; return them in a row after the masked photo, each at most 256 pixels a side."""
        cells = [self.masked(), *(Image.fromarray(completion.rgb) for completion in self)]
        for cell in cells:
            cell.thumbnail((256, 256))
        return grid([np.asarray(cell)[None] for cell in cells], gap=4)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return shown(self.grid())


def best(scores: Sequence[float], keep: int) -> list[int]:
    """Return the indices of the `keep` highest scores, best first."""
    return [int(k) for k in np.argsort(-np.asarray(scores, float), kind="stable")[:keep]]


def farthest(features: np.ndarray, first: int, keep: int) -> list[int]:
    """Return `keep` indices by farthest-point selection: `first`, then ever the one farthest from all chosen.

    `features` (N, D); distances are Euclidean.
    """
    chosen = [first]
    nearest = np.full(len(features), np.inf)
    while len(chosen) < keep:
        nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(1))
        nearest[chosen] = -np.inf
        chosen.append(int(nearest.argmax()))
    return chosen


def seeds_from(seed: int | None, count: int) -> range:
    """Return `count` seeds from `seed` on, a random one for None and -1. Raises ValueError."""
    try:
        first = secrets.randbelow(2**31) if seed is None or seed == -1 else operator.index(seed)
    except TypeError:
        raise ValueError(f"seed is {seed!r}; expected a whole number") from None
    if not 0 <= first < 2**SEED_BITS:
        raise ValueError(f"seed is {first}; expected 0 to 2**{SEED_BITS} - 1, or -1 for a random one")
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
