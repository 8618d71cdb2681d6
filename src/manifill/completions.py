"""The completions of one photo: an iterator, with what they have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from manifill.completion import Completion, Event, Preview, Request, screen_png
from manifill.config import SamplingOptions
from manifill.model import Model
from manifill.photos.crops import Crop
from manifill.photos.photo import Photo
from manifill.photos.tensors import grid
from manifill.pipeline import Sample, complete
from manifill.sampling.choose import best, farthest


class Completions:
    """The completions of one photo, made as they are asked for; sample k has the seed `seed + k`."""

    def __init__(self, inpainter: Model, request: Request) -> None:
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
        return (event for event in self.steps(sample) if event is not None)

    def steps(self, sample: Sample | None = None) -> Iterator[Event | None]:
        """Yield the same events, and None after a part of the work that has none: for those who may have to stop."""
        everything = complete(self.inpainter, self.request, sample)
        if self.request.keep is None:
            yield from everything
            return
        found = list[Completion]()
        for event in everything:
            if isinstance(event, Completion):
                found.append(event)
            elif event is None:
                yield None
        for index, k in enumerate(self.chosen(found)):
            yield Preview(index, found[k].seed, found[k].structure, self.crops[-1] if self.crops else None)
            yield dataclasses.replace(found[k], index=index)

    def chosen(self, found: Sequence[Completion]) -> list[int]:
        """Return which of all completions to keep, the best or, of diverse ones, the likeliest first."""
        likely = best([c.log_likelihood for c in found], len(self))
        if self.request.choose == "likely":
            return likely
        if self.request.choose == "coherent":
            return best([c.coherence for c in found if c.coherence is not None], len(self))
        if not self.crops:
            return likely
        codes = torch.from_numpy(np.stack([c.codes for c in found])).to(self.inpainter.device)  # (N, C, h, w)
        models = [self.inpainter.of(crop) for crop in self.crops]
        features = [model.vqvae.lookup(codes[:, i]).reshape(len(found), -1) for i, model in enumerate(models)]
        return farthest(torch.cat(features, 1).cpu().numpy(), likely[0], len(self))

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
        return screen_png(self.grid())
