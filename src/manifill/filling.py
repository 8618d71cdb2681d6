"""The work on one photo: crop after crop, each drawn for all samples and painted for each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manifill.completions import Completion, Draw, Preview, Request, Work
from manifill.networks.texture import hole_cells
from manifill.photos.crops import Crop
from manifill.photos.photo import stored
from manifill.photos.tensors import to_uint8
from manifill.photos.view import Patch, View
from manifill.sampling.naive import Sampled, gumbel_noise
from manifill.sampling.nearby import mixed, noise_of

if TYPE_CHECKING:
    from manifill.inpainter import Inpainter

CROP = 40  # the noise of a photo's crop i is that of the seed + (i << CROP); what begins from a completion has its own


@dataclass
class Draft:
    """A completion of which not all crops are filled."""

    index: int
    seed: int
    patches: list[Patch]
    codes: list[np.ndarray] = field(default_factory=list)
    log_likelihood: float = 0.0  # the sum over `drawn` codes
    drawn: int = 0
    realism: list[float] = field(default_factory=list)


class Scene:
    """A crop as the networks have read it: condition, the codes that are given, features of the masked picture."""

    def __init__(self, inpainter: Inpainter, view: View, request: Request, i: int) -> None:
        self.view = view
        image, mask = view.image.to(inpainter.device), view.mask.to(inpainter.device)
        self.image, self.mask = image, mask
        self.cond = inpainter.condition(image, mask)
        self.features = inpainter.image_features(image, mask)
        known = inpainter.known(image, mask, request.known_codes)
        self.known = torch.full_like(self.cond[:, 0], -1, dtype=torch.int64) if known is None else known
        if request.start is not None and request.start.part is not None:
            part = torch.from_numpy(view.shrunk(request.start.part))[None, None].float().to(inpainter.device)
            again = hole_cells(part * mask, *self.known.shape[1:]).view_as(self.known)
            before = torch.from_numpy(request.start.completion.codes[i : i + 1]).to(inpainter.device)
            self.known = torch.where(again, -1, before)


class Filling:
    """The work on one photo for a batch of samples."""

    def __init__(self, inpainter: Inpainter, request: Request, crops: Sequence[Crop]) -> None:
        self.inpainter, self.request, self.crops = inpainter, request, crops
        self.shared: dict[int, Scene] = {}  # of the crops that look the same for all samples
        self.stream = 0
        if request.start is not None:  # the noise is independent of that which has led to the codes
            self.stream = 1 + zlib.crc32(request.start.completion.codes.astype("<i8").tobytes()) << 2 * CROP

    def work(self) -> Work:
        """Fill the hole for all seeds, as many at once as memory allows."""
        seeds, at_once = self.request.seeds, self.inpainter.at_once
        for first in range(0, len(seeds), at_once):
            yield from self.batch(first, seeds[first : first + at_once])

    def batch(self, first: int, seeds: Sequence[int]) -> Work:
        """Fill all crops for the seeds of samples `first` and on; the last crop sample by sample."""
        kept = self.request.start.completion.patches if self.request.start else []
        drafts = [Draft(first + k, seed, list(kept)) for k, seed in enumerate(seeds)]
        for i in range(len(self.crops)):
            scenes = self.scenes(i, drafts)
            sampled = yield self.draw(i, scenes, drafts)
            assert sampled is not None
            structures: list[Image.Image] = []
            if i == len(self.crops) - 1:
                structures = [Image.fromarray(p) for p in to_uint8(self.inpainter.decode_structure(sampled.codes))]
            for draft, structure in zip(drafts, structures, strict=False):
                yield Preview(draft.index, draft.seed, structure)
            for k, draft in enumerate(drafts):
                scene = scenes[k % len(scenes)]
                painted = self.fill(draft, i, scene, sampled, k)
                if len(scenes) > 1 or k == len(drafts) - 1:
                    scene.view.forget()
                if structures:
                    yield self.completion(draft, painted, structures[k])

    def scenes(self, i: int, drafts: Sequence[Draft]) -> list[Scene]:
        """Return crop i as each sample has it: one scene where none of its pixels has been filled before."""
        crop, hole = self.crops[i], self.request.hole
        seen = [c for c in self.crops[:i] if crop.overlaps(c)]
        if not seen and i in self.shared:
            return [self.shared[i]]
        unknown = hole[crop.rows, crop.columns].copy()
        for other in seen:
            other.remove_own(unknown, crop)
        scenes = []
        for draft in drafts if seen else drafts[:1]:
            look = partial(self.look, crop, tuple(draft.patches) if seen else ())
            view = View(crop, look, unknown, self.inpainter.image_size)
            scenes.append(Scene(self.inpainter, view, self.request, i))
        if not seen:
            self.shared[i] = scenes[0]
        return scenes

    def look(self, crop: Crop, patches: Sequence[Patch]) -> np.ndarray:
        """Return a crop's part of the photo with patches put in, uint8 (h, w, 3)."""
        rgb = self.request.photo.rgb[crop.rows, crop.columns]
        if patches:
            rgb = rgb.copy()
        for patch in patches:
            patch.put(rgb, crop.rows, crop.columns)
        return rgb

    def draw(self, i: int, scenes: Sequence[Scene], drafts: Sequence[Draft]) -> Draw:
        """Ask for the structures of crop i."""
        cond, known = torch.cat([s.cond for s in scenes]), torch.cat([s.known for s in scenes])
        positions, size = cond.shape[-2] * cond.shape[-1], self.inpainter.structure.config.codebook_size
        noise = gumbel_noise([self.stream + (i << CROP) + draft.seed for draft in drafts], positions, size)
        start = self.request.start
        if start is not None and start.part is None:
            noise = torch.stack([
                mixed(self.noise_before(i, scenes[k % len(scenes)]), fresh, start.amount)
                for k, fresh in enumerate(noise)
            ])  # fmt: skip
        return Draw(cond, known, noise, self.request.options)

    def noise_before(self, i: int, scene: Scene) -> Tensor:
        """Return noise (h*w, K) with which crop i of the completion to start from would be drawn.

        What it leaves open is drawn independently of the noise that led to the codes, which were its largest sums.
        """
        start, inpainter = self.request.start, self.inpainter
        assert start is not None
        codes = torch.from_numpy(start.completion.codes[i : i + 1]).to(inpainter.device)
        logits = inpainter.logits(codes, scene.cond)[0].flatten(1).t().cpu()
        other = gumbel_noise([self.stream + (i << CROP) + (1 << 3 * CROP)], *logits.shape)[0]  # of no sample
        return noise_of(codes.flatten().cpu(), logits, self.request.options, other)

    def fill(self, draft: Draft, i: int, scene: Scene, sampled: Sampled, k: int) -> np.ndarray:
        """Paint crop i of a sample and add it to the draft; return the painted crop, float32 (S, S, 3) in [0, 255]."""
        inpainter, request, view = self.inpainter, self.request, scene.view
        codes = sampled.codes[k : k + 1]
        features = inpainter.vqvae.lookup(codes)
        result = inpainter.paint(scene.features, codes, scene.mask)
        painted = ((result[0].permute(1, 2, 0) + 1) * 127.5).cpu().numpy()
        rows, columns = view.crop.box()
        which = view.crop.owned(rows, columns)
        if request.start is not None and request.start.part is not None:
            which = which & request.start.part[rows, columns]
        if which.any():
            full = view.finish(painted, features, inpainter.texture.config.fuse, request.fit)
            samples = stored(request.photo, full)
            rgb = samples if request.photo.mode == "RGB" else full.round().clip(0, 255).astype(np.uint8)
            draft.patches.append(Patch(rows, columns, which, rgb, samples))
        drawn = hole_cells(scene.mask, *codes.shape[1:]).view_as(scene.known) & (scene.known < 0)
        draft.log_likelihood += float((sampled.log_likelihood[k : k + 1] * drawn).sum())
        draft.drawn += int(drawn.sum())
        draft.codes.append(codes[0].cpu().numpy())
        score = inpainter.realism(torch.where(scene.mask > 0, result, scene.image), scene.mask)
        draft.realism += [] if score is None else [score]
        return painted

    def completion(self, draft: Draft, painted: np.ndarray, structure: Image.Image) -> Completion:
        """Return a draft of which all crops are filled."""
        return Completion(
            self.request, draft.index, draft.seed, np.stack(draft.codes), draft.patches,
            Image.fromarray(painted.round().clip(0, 255).astype(np.uint8)), structure,
            draft.log_likelihood / max(draft.drawn, 1), float(np.mean(draft.realism)) if draft.realism else None,
        )  # fmt: skip
