"""Completions of a photo: asked for once, drawn together with those of other photos, composed on demand."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manifill.choosing import Choice, best, farthest
from manifill.config import Fit
from manifill.photos.crops import plan
from manifill.photos.photo import Photo, to_pillow
from manifill.photos.view import Patch, recoloured, retouched
from manifill.sampling.naive import Sampled, SamplingOptions

if TYPE_CHECKING:
    from manifill.inpainter import Inpainter

KnownCodes = Literal["exact", "cells", "none"]


@dataclass(frozen=True)
class Request:
    """What was asked for: a photo, its hole, bool (H, W), the seeds and how to draw; keep `keep` of them, or all.

    `start` is a completion to begin from.
    """

    photo: Photo
    hole: np.ndarray
    seeds: Sequence[int]
    options: SamplingOptions
    known_codes: KnownCodes = "exact"
    fit: Fit = Fit()  # noqa: RUF009
    keep: int | None = None
    choose: Choice = "diverse"
    start: Start | None = None


@dataclass(frozen=True)
class Start:
    """A completion that is drawn anew in `part`, bool (H, W), or moved away from by `amount`, 0 to 1."""

    completion: Completion
    part: np.ndarray | None = None
    amount: float = 0.0


@dataclass(frozen=True)
class Preview:
    """A structure that has been drawn and is still to be painted, decoded alone, at the model's size."""

    index: int
    seed: int
    structure: Image.Image


@dataclass(frozen=True)
class Completion:
    """One completed photo.

    `codes` (C, h, w) int64 are those of its C crops, `patches` its new pixels. `painted` is the last crop as the
    texture generator painted it and `structure` its structure decoded alone, both at the model's size. `log_likelihood`
    is the mean over the hole's drawn codes, in nats a code; `realism` the discriminator's mean score, None without one.
    """

    request: Request
    index: int
    seed: int
    codes: np.ndarray
    patches: Sequence[Patch]
    painted: Image.Image
    structure: Image.Image
    log_likelihood: float
    realism: float | None

    @property
    def samples(self) -> np.ndarray:
        """The photo's own samples with the hole filled: uint8 or uint16, (H, W) or (H, W, C)."""
        return retouched(self.request.photo.samples, self.patches)

    @property
    def rgb(self) -> np.ndarray:
        """The completed photo as the networks see it: uint8 (H, W, 3)."""
        return recoloured(self.request.photo.rgb, self.patches)

    @property
    def image(self) -> Image.Image:
        """The completed photo: its size, pixel type and metadata, and its own pixels outside the hole."""
        return to_pillow(self.request.photo, self.samples)


Event: TypeAlias = Preview | Completion


@dataclass(frozen=True)
class Draw:
    """What a photo needs of the sampler: `cond` (1 or N, 8n, h, w), `known` (1 or N, h, w) and `noise` (N, h*w, K)."""

    cond: Tensor
    known: Tensor
    noise: Tensor
    options: SamplingOptions


Work: TypeAlias = Generator["Draw | Event", "Sampled | None", None]


class Completions:
    """The completions of one photo, made as they are asked for; sample k has the seed `seed + k`."""

    def __init__(self, inpainter: Inpainter, request: Request) -> None:
        self.inpainter, self.request = inpainter, request
        self.crops = plan(request.hole, inpainter.image_size, request.fit)

    def __len__(self) -> int:
        return self.request.keep or len(self.request.seeds)

    def __iter__(self) -> Iterator[Completion]:
        return (event for event in self.events() if isinstance(event, Completion))

    def events(self) -> Iterator[Event]:
        """Yield the structures of a batch of samples as soon as they are drawn, then each one's completion."""
        return (event for _, event in together([self]))

    @property
    def photo(self) -> Photo:
        """The photo."""
        return self.request.photo

    @property
    def hole(self) -> np.ndarray:
        """What is filled, bool (H, W)."""
        return self.request.hole

    @property
    def options(self) -> SamplingOptions:
        """How structures are drawn."""
        return self.request.options

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds that are drawn."""
        return self.request.seeds

    def masked(self) -> Image.Image:
        """Return the photo with a white hole, for looking at."""
        return Image.fromarray(np.where(self.hole[..., None], np.uint8(255), self.photo.rgb))

    def work(self) -> Work:
        """Yield what happens; every Draw is to be answered by sending what was sampled."""
        everything = self.inpainter.work(self.request, self.crops)
        if self.request.keep is None:
            yield from everything
            return
        found, reply = [], None
        try:
            while True:
                event = everything.send(reply)
                reply = (yield event) if isinstance(event, Draw) else None
                if isinstance(event, Completion):
                    found.append(event)
        except StopIteration:
            pass
        for index, k in enumerate(self.chosen(found)):
            yield Preview(index, found[k].seed, found[k].structure)
            yield replace(found[k], index=index)

    def chosen(self, found: Sequence[Completion]) -> list[int]:
        """Return which of all completions to keep, the best or, of diverse ones, the likeliest first."""
        likely = best([c.log_likelihood for c in found], len(self))
        if self.request.choose == "likely":
            return likely
        if self.request.choose == "realistic":
            return best([c.realism for c in found if c.realism is not None], len(self))
        codes = torch.from_numpy(np.stack([c.codes for c in found])).flatten(0, 1)
        features = self.inpainter.vqvae.lookup(codes.to(self.inpainter.device)).reshape(len(found), -1)
        return farthest(features.cpu().numpy(), likely[0], len(self))


def together(requests: Sequence[Completions]) -> Iterator[tuple[int, Event]]:
    """Yield (which request, what happened) of several photos, whose structures are drawn in the same batches.

    All are of one inpainter. Every result is what its request alone would give; to cancel, stop iterating.
    """
    works = [request.work() for request in requests]
    replies: dict[int, Sampled | None] = dict.fromkeys(range(len(works)))
    while replies:
        waiting: dict[int, Draw] = {}
        for which, reply in replies.items():
            try:
                found = works[which].send(reply)
                while not isinstance(found, Draw):
                    yield which, found
                    found = next(works[which])
                waiting[which] = found
            except StopIteration:
                continue
        replies = dict(zip(waiting, requests[0].inpainter.answer(list(waiting.values())), strict=True))
