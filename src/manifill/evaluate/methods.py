"""What can be evaluated, a picture at a time: a model, classical baselines, and any folder of results."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manifill.completion import Choice
from manifill.config import Fit, Sampling, SamplingOptions, check_counts
from manifill.data.sources import SUFFIXES, DataError
from manifill.inpainter import Inpainter, KnownCodes
from manifill.networks.vqvae import VQVAE
from manifill.photos.detail import Border, Membrane
from manifill.photos.tensors import to_tensor, to_uint8

SEEDS = 1000  # seeds kept apart for each picture: sample s of picture k has seed + SEEDS * k + s


@dataclass(frozen=True)
class Completed:
    """Completions of one picture: `composites` (S, H, W, 3) uint8.

    Where the method has them, the whole painted pictures `full`, as large, and `bits`, what a hole's code costs: (S,).
    """

    composites: np.ndarray
    full: np.ndarray | None = None
    bits: np.ndarray | None = None


class Method(Protocol):
    """Something that completes pictures: the same picture, hole and index always give the same result."""

    name: str
    about: dict[str, Any]

    def complete(self, picture: np.ndarray, hole: np.ndarray, index: int, name: str) -> Completed:
        """Complete a picture (H, W, 3) uint8 with a hole (H, W) bool."""
        ...


@dataclass(frozen=True)
class Picking:
    """Which completions of a picture count: `samples`, chosen of `of` sampled ones where that is given.

    With `nearest` only that of them which is nearest to the original, in L1: a reference-guided choice, as some
    published figures make it.
    """

    samples: int = 5
    of: int | None = None
    choose: Choice = "diverse"
    nearest: bool = False

    def __post_init__(self) -> None:
        check_counts(self.samples, self.of)
        if (self.of or self.samples) > SEEDS:
            raise ValueError(f"{self.of or self.samples} samples; expected at most {SEEDS} a picture")


@dataclass
class ModelMethod:
    """A manifill model at its own size."""

    inpainter: Inpainter
    picking: Picking
    options: SamplingOptions
    known_codes: KnownCodes = "exact"
    seed: int = 0
    fit: Fit = field(default_factory=lambda: Fit(thin=False))

    def __post_init__(self) -> None:
        self.name = self.inpainter.name or "model"
        self.about: dict[str, Any] = {
            "model": self.inpainter.name,
            "weights": self.inpainter.weights,
            **asdict(self.picking),
            "seed": self.seed,
            "seeds": f"seed + {SEEDS} * picture + sample",
            **asdict(self.options),
            "known_codes": self.known_codes,
            "dtype": str(self.inpainter.dtype).removeprefix("torch."),
            "painted_in": str(self.inpainter.paint_dtype).removeprefix("torch."),
            "fit": asdict(self.fit),
        }

    def complete(self, picture: np.ndarray, hole: np.ndarray, index: int, name: str) -> Completed:
        """Complete a picture of the model's size."""
        p, given = self.picking, cast(Sampling, asdict(self.options))
        own = {"known_codes": self.known_codes, "fit": self.fit, "of": p.of, "choose": p.choose}
        with warnings.catch_warnings(action="ignore"):  # protocols have large holes on purpose
            seed = self.seed + SEEDS * index
            found = list(self.inpainter(picture, hole, num_samples=p.samples, seed=seed, **own, **given))
        composites = np.stack([c.rgb for c in found])
        kept = slice(None)
        if p.nearest:
            best = int(np.abs(composites.astype(np.int64) - picture).sum((1, 2, 3)).argmin())
            kept = slice(best, best + 1)
        return Completed(
            composites[kept],
            np.stack([np.asarray(c.painted) for c in found])[kept],
            np.array([-c.log_likelihood / np.log(2) for c in found])[kept],
        )


class TrueCodes:
    """A texture generator on given structure codes: the true ones, what painting can reach at best, or `codes`.

    `paint` takes pictures, masks and true structure features and returns painted pictures in [-1, 1]. They are pasted
    as painted or, `seamless`, as completions are by default, so that the two compare.
    `codes` (N, h, w) are of the pictures by number.
    """

    def __init__(
        self,
        vqvae: VQVAE,
        paint: Callable[[Tensor, Tensor, Tensor], Tensor],
        name: str,
        weights: str,
        seamless: bool = False,
        codes: Tensor | None = None,
    ) -> None:
        self.vqvae, self.paint, self.name, self.seamless, self.codes = vqvae, paint, name, seamless, codes
        said = "true" if codes is None else "sampled"
        self.about = {"model": name, "weights": weights, "samples": 1, "codes": said, "seamless": seamless}

    @classmethod
    def of(cls, model: Inpainter, fit: Fit | None = None) -> TrueCodes:
        """Return the method of a model's own texture generator, pasted as `fit` says."""

        def paint(image: Tensor, mask: Tensor, structure: Tensor) -> Tensor:
            return model.texture.paint(*model.image_features(image, mask), structure, mask).float()

        return cls(model.vqvae, paint, f"{model.name}-true-codes", model.weights, (fit or Fit()).seamless)

    @torch.no_grad()
    def complete(self, picture: np.ndarray, hole: np.ndarray, index: int, name: str) -> Completed:
        """Complete a picture of the model's size."""
        device = next(self.vqvae.parameters()).device
        image, mask = to_tensor(picture).to(device), torch.from_numpy(hole)[None, None].float().to(device)
        if self.codes is None:
            structure = self.vqvae.encode(image).structure
        else:
            structure = self.vqvae.lookup(self.codes[index : index + 1].to(device))
        painted = self.paint(image, mask, structure)
        full = pasted = to_uint8(painted)
        if self.seamless:
            values = ((painted[0].permute(1, 2, 0) + 1) * 127.5).cpu().numpy()
            values += Membrane(hole)(Border(picture, hole)(values))
            pasted = values.round().clip(0, 255).astype(np.uint8)[None]
        return Completed(np.where(hole[None, ..., None], pasted, picture[None]), full)


class Classical:
    """OpenCV's Telea or Navier-Stokes, or scikit-image's biharmonic inpainting (the extra [evaluate])."""

    def __init__(self, name: str) -> None:
        self.name, self.about = name, {"model": name, "weights": "", "samples": 1}

    def complete(self, picture: np.ndarray, hole: np.ndarray, index: int, name: str) -> Completed:
        """Complete a picture."""
        if self.name == "biharmonic":
            from skimage.restoration import inpaint_biharmonic

            done = inpaint_biharmonic(np.where(hole[..., None], 0, picture) / 255, hole, channel_axis=2)
            painted = (done.clip(0, 1) * 255).round().astype(np.uint8)
        else:
            import cv2

            flag = cv2.INPAINT_TELEA if self.name == "telea" else cv2.INPAINT_NS
            painted = cv2.inpaint(np.ascontiguousarray(picture), hole.astype(np.uint8) * 255, 3, flag)
        return Completed(np.where(hole[..., None], painted, picture)[None])


class Folder:
    """Another system's results: for a picture `face.jpg` the files face.png, face_000.png ... or face/*.png."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of results")
        self.folder, self.name = folder, folder.name
        self.listed = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES]  # once, not for every picture
        self.about = {"model": folder.name, "weights": "", "samples": 0}

    def complete(self, picture: np.ndarray, hole: np.ndarray, index: int, name: str) -> Completed:
        """Read the results of the picture called `name`."""
        return Completed(np.stack([self.read(file, picture.shape[:2]) for file in self.files(Path(name).stem)]))

    def check(self, names: Sequence[str]) -> None:
        """Count the results of all pictures. Raises DataError when one has none or another number than the first."""
        counts = {name: len(self.files(Path(name).stem)) for name in names}
        self.about["samples"] = first = next(iter(counts.values()))
        if odd := next((name for name, count in counts.items() if count != first), None):
            raise DataError(f"{self.folder}: {counts[odd]} results for {odd}, {first} for the pictures before")

    def files(self, stem: str) -> list[Path]:
        """Return the results of a picture, in order."""
        inner = self.folder / stem
        listed = inner.iterdir() if inner.is_dir() else self.listed
        own = re.compile(".*" if inner.is_dir() else re.escape(stem) + r"(_\d+)?")
        files = sorted(f for f in listed if f.suffix.lower() in SUFFIXES and own.fullmatch(f.stem))
        if not files:
            raise DataError(
                f"{self.folder}: no result for {stem} (looked for {stem}.png, {stem}_000.png, {stem}/*.png)"
            )
        return files

    @staticmethod
    def read(file: Path, size: tuple[int, int]) -> np.ndarray:
        """Read a result of the photo's size."""
        with Image.open(file) as picture:
            array = np.asarray(picture.convert("RGB"))
        if array.shape[:2] != size:
            raise DataError(f"{file}: {array.shape[1]}x{array.shape[0]} pixels; its photo has {size[1]}x{size[0]}")
        return array
