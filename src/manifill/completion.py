"""What is asked for and what comes back: data alone, no network."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from manifill.config import SEED_BITS, Fit, ManifillWarning, SamplingOptions
from manifill.photos.crops import Crop
from manifill.photos.photo import Photo, to_pillow
from manifill.photos.thin import Thin
from manifill.photos.view import Patch, recoloured, retouched

KnownCodes = Literal["exact", "cells", "none"]
Choice = Literal["diverse", "likely", "coherent"]


class Doubt(ManifillWarning):
    """A photo is unlike what a model knows, so that its completions may disappoint; `Request.notes` says it too."""


@dataclass(frozen=True)
class Request:
    """What was asked for: a photo, its hole, bool (H, W), the seeds and how to sample; keep `keep` of them, or all.

    `thin` are pixels of the hole that are filled without a model, before all else; `crops` are the squares that are
    completed, one after another; those with a face take `face_options`, where given. `start` is a completion to begin
    from; `notes` are the warnings about photo and mask.
    """

    photo: Photo
    hole: np.ndarray = field(repr=False)
    crops: Sequence[Crop] = field(repr=False)
    seeds: Sequence[int]
    options: SamplingOptions
    known_codes: KnownCodes = "exact"
    fit: Fit = Fit()  # noqa: RUF009
    keep: int | None = None
    choose: Choice = "diverse"
    start: Start | None = None
    thin: Thin | None = field(default=None, repr=False)
    face_options: SamplingOptions | None = None
    notes: tuple[str, ...] = ()

    @property
    def reads_backwards(self) -> bool:
        """Whether samples are also to be read from right to left, which takes about as long as sampling them."""
        return self.keep is not None and self.choose == "coherent"

    def options_of(self, crop: Crop) -> SamplingOptions:
        """Return how structures of a crop are sampled."""
        return self.face_options if crop.face and self.face_options else self.options

    @property
    def given(self) -> Sequence[Patch]:
        """What every completion has before its first crop is filled."""
        return [] if self.thin is None else [self.thin.patch]

    @cached_property
    def stream(self) -> int:
        """Where the noise of these seeds begins: independent of the noise that has led to the completion `start`."""
        if self.start is None:
            return 0
        return 1 + zlib.crc32(self.start.completion.codes.astype("<i8").tobytes()) << 2 * SEED_BITS

    def noise_seed(self, i: int, seed: int) -> int:
        """Return the seed of the noise of crop i."""
        return self.stream + (i << SEED_BITS) + seed


@dataclass(frozen=True)
class Start:
    """A completion that is sampled anew in `part`, bool (H, W), or moved away from by `amount`, 0 to 1."""

    completion: Completion
    part: np.ndarray | None = field(default=None, repr=False)
    amount: float = 0.0


@dataclass(frozen=True)
class Preview:
    """A structure that has been sampled and is still to be painted, decoded alone, at the model's size.

    It is that of `crop`, the first square of the photo, or the last where samples are chosen from; None is all of the
    photo, squeezed.
    """

    index: int
    seed: int
    structure: Image.Image = field(repr=False)
    crop: Crop | None = field(default=None, repr=False)

    def _repr_png_(self) -> bytes:
        return screen_png(self.structure)


@dataclass(frozen=True, repr=False)
class Completion:
    """One completed photo.

    `codes` (C, h, w) int64 are those of its C crops, `patches` its new pixels. `painted` is the last crop as the
    texture generator painted it and `structure` its structure decoded alone, both at the model's size. `log_likelihood`
    is the mean over the hole's sampled codes, in nats a code; `coherence` the same of the same codes read from right to
    left, None unless completions were chosen by it.
    """

    request: Request
    index: int
    seed: int
    codes: np.ndarray = field(repr=False)
    patches: Sequence[Patch] = field(repr=False)
    painted: Image.Image
    structure: Image.Image
    log_likelihood: float
    coherence: float | None = None

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

    def __repr__(self) -> str:
        about = f"seed {self.seed}, log-likelihood {self.log_likelihood:.2f}"
        return f"Completion({self.index} of {self.request.photo.name}, {about})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return screen_png(Image.fromarray(self.rgb))


def screen_png(picture: Image.Image) -> bytes:
    """Return an RGB picture as a PNG for a screen: its longer side at most 1024 pixels."""
    picture, file = picture.copy(), io.BytesIO()
    picture.thumbnail((1024, 1024))
    picture.save(file, "png")
    return file.getvalue()


Event: TypeAlias = Preview | Completion
