"""Inpainter: a photo, a mask and seeds in; completions out, one by one."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import torch

from manifill import hub
from manifill.completion import Choice, Completion, Doubt, KnownCodes, Preview, Request, Start
from manifill.completions import Completions
from manifill.config import Fit, ManifillWarning, ModelError, Sampling, SamplingOptions, seeds_from
from manifill.hub import bundled, find_model, from_hub
from manifill.model import Model, find_device
from manifill.networks.checkpoint import read_header
from manifill.photos.crops import Crop, dilated
from manifill.photos.decode import ImageError, Picture
from manifill.photos.framing import Plan, meets_face, plan_photo
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo, load_photo
from manifill.photos.thin import Thin

__all__ = ["Completion", "Completions", "Inpainter", "KnownCodes", "Preview", "bundled", "find_model"]

AUTO, FACES, SCENES = "auto", "faces-128", "scenes-128"  # the first chooses from the others


class Inpainter(Model):
    """A model that fills holes. Load it with `from_pretrained`, then call it with a photo and a mask.

    A photo or a mask is a path, bytes, an open file, a PIL image, a numpy array or a tensor (see `photos.arrays`).
    White is the hole. All pixels outside it stay as they are, bit for bit.

    Example:
        >>> from manifill import Inpainter
        >>> inpainter = Inpainter.from_pretrained()
        >>> for completion in inpainter("photo.png", "mask.png", num_samples=4, seed=0):
        ...     completion.image.save(f"{completion.seed}.png")

    """

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path = AUTO, device: str = "auto", dtype: torch.dtype | None = None
    ) -> Self:
        """Load a model.

        Args:
            name_or_folder: "auto" takes "faces-128" where a hole meets a face and "scenes-128" elsewhere, each loaded
                when it is first needed; or one of these, a model folder, or "user/repo" of the hub.
            device: "auto", "cpu", "cuda", ...
            dtype: None samples structures in float32, so that a seed means the same codes everywhere, and paints in
                bfloat16 where the processor multiplies it fast; torch.bfloat16 or torch.float32 is used for all.

        Returns:
            The model, ready to be called.

        Raises:
            ModelError: There is no such model, or it cannot be used.

        """
        if name_or_folder == AUTO:
            return Auto(cls, device, dtype)  # type: ignore[return-value]
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
            warnings.warn(note, ManifillWarning, stacklevel=2)
        self.check(num_samples, known_codes, of, choose)
        self.options(**sampling)
        seeds, keep = seeds_from(seed, of or num_samples), num_samples if of else None
        plan = self.plan(photo, hole, fit)
        model = self.model_for(plan.crops)
        options, others = model.options(**sampling), None
        if model.parts is not None:
            options, others = (part.options(**sampling) for part in model.parts)
        thin = Thin(photo, hole, plan.thin) if plan.thin.any() else None
        request = Request(photo, hole, plan.crops, seeds, options, known_codes, fit, keep, choose, None, thin, others)
        unlike = [f"{photo.name}: {note}" for note in plan.notes or model.doubts(request)]
        for note in unlike:
            warnings.warn(note, Doubt, stacklevel=2)
        return Completions(model, dataclasses.replace(request, notes=(*photo.notes, *notes, *unlike)))

    @property
    def members(self) -> Sequence[Inpainter]:
        """The single models that it fills holes with."""
        return [self]

    def plan(self, photo: Photo, hole: np.ndarray, fit: Fit) -> Plan:
        """Plan how a hole, bool (H, W), of a photo is filled."""
        framing = self.domain.framing if self.domain else None
        plan = plan_photo(photo.rgb, hole, self.image_size, fit, framing, only=True)
        if self.domain and not framing and fit.strategy == "auto" and plan.crops and meets_face(photo.rgb, hole):
            note = f"the hole meets a face, and {self.name} knows {self.domain.subject}: expect little"
            return dataclasses.replace(plan, notes=[*plan.notes, note])
        return plan

    def model_for(self, crops: Sequence[Crop]) -> Inpainter:
        """Return the inpainter that fills these crops."""
        return self

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
            warnings.warn(note, ManifillWarning, stacklevel=2)
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
        request = dataclasses.replace(completion.request, **changes)
        return Completions(self.model_for(request.crops), request)


class Auto(Inpainter):
    """The bundled model that suits each hole: FACES where it meets a face, SCENES elsewhere.

    Each is loaded when it is first needed. What is asked of this inpainter as of one model, SCENES answers.
    """

    def __init__(self, kind: type[Inpainter], device: str, dtype: torch.dtype | None) -> None:
        self.kind, self.asked, self.name = kind, (str(find_device(device)), dtype), AUTO
        self.faces_header, self.scenes_header = (read_header(find_model(name), "vqvae") for name in (FACES, SCENES))
        if self.faces_header.image_size != self.scenes_header.image_size:
            raise ModelError(f"{FACES} and {SCENES} are of different sizes, so they cannot fill the holes of one photo")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "asked" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.scenes, name)

    @cached_property
    def faces(self) -> Inpainter:
        """The model that knows faces."""
        return self.kind.from_pretrained(FACES, *self.asked)

    @cached_property
    def scenes(self) -> Inpainter:
        """The model of everything else."""
        return self.kind.from_pretrained(SCENES, *self.asked)

    @property
    def members(self) -> Sequence[Inpainter]:
        """Both models, that of scenes first."""
        return [self.scenes, self.faces]

    @cached_property
    def both(self) -> Inpainter:
        """SCENES, with FACES in its place where a square holds a face."""
        _ = self.scenes.sampler  # made once, for this copy too
        pair = copy.copy(self.scenes)
        pair.parts, pair.domain = (self.scenes, self.faces), None
        pair.name, pair.weights = (f"{getattr(self.scenes, n)}+{getattr(self.faces, n)}" for n in ("name", "weights"))
        return pair

    def plan(self, photo: Photo, hole: np.ndarray, fit: Fit) -> Plan:
        """Plan how a hole, bool (H, W), of a photo is filled."""
        domain = self.faces_header.domain
        framing = domain.framing if domain else None
        return plan_photo(photo.rgb, hole, self.scenes_header.image_size, fit, framing, only=False)

    def model_for(self, crops: Sequence[Crop]) -> Inpainter:
        """Return the inpainter that fills these crops."""
        with_face = {crop.face for crop in crops}
        return self.both if len(with_face) == 2 else self.faces if with_face == {True} else self.scenes

    def options(self, **given: Unpack[Sampling]) -> SamplingOptions:
        """Return sampling options that each model completes with its own. Raises ValueError."""
        return SamplingOptions(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def load_models(names: Sequence[str], device: str = "auto", dtype: torch.dtype | None = None) -> list[Inpainter]:
    """Load several models, as `from_pretrained` does; what "auto" chooses from is loaded once where it is named, too.

    Raises ModelError also where two have one name.
    """
    models = [Inpainter.from_pretrained(name, device, dtype) for name in names if name != AUTO]
    found = {model.name: model for model in models}
    if AUTO in names:
        auto = Inpainter.from_pretrained(AUTO, device, dtype)
        vars(auto).update({kind: found[name] for kind, name in (("faces", FACES), ("scenes", SCENES)) if name in found})
        models.insert(names.index(AUTO), auto)
        found[AUTO] = auto
    if not names or len(found) < len(names):
        raise ModelError(f"models are {', '.join(names) or 'none'}; expected one or more, each with a name of its own")
    return models
