"""The way of one photo from top to bottom: for each batch of seeds and each square condition, sample, paint, paste.

The sampler is an argument. `complete` calls it and waits; it does not know whether its rows are sampled alone or
together with those of other photos, as `web/batcher.py` does it. To cancel, stop iterating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manifill.completion import SEED_BITS, Completion, Event, Preview, Request
from manifill.config import SamplingOptions
from manifill.model import Model
from manifill.networks.texture import hole_cells
from manifill.photos.crops import Crop
from manifill.photos.photo import stored
from manifill.photos.tensors import to_uint8
from manifill.photos.view import Patch, View, recoloured
from manifill.sampling.naive import Sampled, gumbel_noise
from manifill.sampling.nearby import mix_noise, noise_of

# (model, cond (1 or N, 8n, h, w), known (1 or N, h, w), noise (N, h*w, K), options) -> codes of N samples
Sample: TypeAlias = Callable[[Model, Tensor, Tensor, Tensor, SamplingOptions], Sampled]


def complete(model: Model, request: Request, sample: Sample | None = None) -> Iterator[Event | None]:
    """Yield a batch's first structures as soon as they are sampled, then each one's completion; batch after batch.

    Before all else the hole's thin parts are filled, with None after each step.

    Each square is filled by the model that `model.of` names. `sample` is its own unless given. A hole that is thin
    everywhere has no squares: its completions are alike.
    """
    sample, at_once = sample or alone, model.at_once
    if request.thin is not None:
        yield from request.thin.steps()
    kept = request.start.completion.patches if request.start else request.given
    alike: dict[int, Square] = {}  # squares that are the same for all samples are read once, for all batches
    for first in range(0, len(request.seeds), at_once):
        seeds = request.seeds[first : first + at_once]
        drafts = [Draft(first + k, seed, list(kept)) for k, seed in enumerate(seeds)]
        if not request.crops:
            yield from without_squares(model, request, drafts)
        for i, crop in enumerate(request.crops):
            model_here = model.of(crop)
            squares = read_squares(model_here, request, i, drafts, alike)
            cond, known = torch.cat([s.cond for s in squares]), torch.cat([s.known for s in squares])
            noise = noise_for(model_here, request, i, squares, drafts)
            sampled = sample(model_here, cond, known, noise, request.options_of(crop))  # codes (N, h, w)
            backwards = model_here.log_likelihood(sampled.codes, cond, -1) if request.reads_backwards else None
            last = i == len(request.crops) - 1
            structures = []
            if i == 0 or last:
                structures = [Image.fromarray(p) for p in to_uint8(model_here.decode_structure(sampled.codes))]
            if i == 0:  # shown before anything is painted, and before other squares are read for each sample
                for draft, structure in zip(drafts, structures, strict=True):
                    yield Preview(draft.index, draft.seed, structure, crop)
            for k, draft in enumerate(drafts):
                square = squares[k % len(squares)]
                painted = paint(model_here, request, square, sampled, k, draft)
                draft.count_likelihoods(square, sampled.log_likelihood[k], None if backwards is None else backwards[k])
                if len(squares) > 1 or k == len(drafts) - 1:  # its details are as large as the photo
                    square.view.forget()
                if last:
                    yield draft.finished(request, painted, structures[k])


def alone(model: Model, cond: Tensor, known: Tensor, noise: Tensor, options: SamplingOptions) -> Sampled:
    """Sample a photo's structures in a batch of their own."""
    return model.sample(cond, known, noise, options)


def without_squares(model: Model, request: Request, drafts: Sequence[Draft]) -> Iterator[Event]:
    """Yield the completions of a hole that no model has to fill; both pictures are the photo, squeezed."""
    side = model.image_size
    for draft in drafts:
        picture = Image.fromarray(recoloured(request.photo.rgb, draft.patches)).resize((side, side))
        yield Preview(draft.index, draft.seed, picture)
        codes = np.zeros((0, side // 8, side // 8), np.int64)
        yield Completion(request, draft.index, draft.seed, codes, draft.patches, picture, picture, 0.0, None)


@dataclass
class Draft:
    """A completion of which not all squares are filled."""

    index: int
    seed: int
    patches: list[Patch]
    codes: list[np.ndarray] = field(default_factory=list)
    log_likelihood: float = 0.0  # the sum over `count` sampled codes
    backwards: float | None = None  # the same, read from right to left
    count: int = 0

    def count_likelihoods(self, square: Square, forwards: Tensor, backwards: Tensor | None) -> None:
        """Add the log-likelihoods (h, w) of a square's codes: those of its hole that were sampled."""
        own = hole_cells(square.mask, *forwards.shape).view_as(square.known) & (square.known < 0)  # (1, h, w)
        self.log_likelihood += float((forwards * own).sum())
        if backwards is not None:
            self.backwards = (self.backwards or 0.0) + float((backwards * own).sum())
        self.count += int(own.sum())

    def finished(self, request: Request, painted: np.ndarray, structure: Image.Image) -> Completion:
        """Return the completion, all of whose squares are filled."""
        last = Image.fromarray(painted.round().clip(0, 255).astype(np.uint8))
        count = max(self.count, 1)
        coherence = None if self.backwards is None else self.backwards / count
        return Completion(
            request,
            self.index,
            self.seed,
            np.stack(self.codes),
            self.patches,
            last,
            structure,
            self.log_likelihood / count,
            coherence,
        )


class Square:
    """A crop as the networks have read it: condition, the codes that are given, features of the masked picture."""

    def __init__(self, model: Model, view: View, request: Request, i: int) -> None:
        self.view = view
        image, mask = view.image.to(model.device), view.mask.to(model.device)
        self.image, self.mask = image, mask  # (1, 3, S, S), (1, 1, S, S)
        seen = model.condition_features(image, mask)
        self.model, self.cond = model, model.condition(image, mask, seen)  # (1, 8n, h, w)
        known = model.known(image, mask, request.known_codes, seen)
        self.known = torch.full_like(self.cond[:, 0], -1, dtype=torch.int64) if known is None else known  # (1, h, w)
        if request.start is not None and request.start.part is not None:
            part = torch.from_numpy(view.shrunk(request.start.part))[None, None].float().to(model.device)
            # a part is sampled anew: its cells are open, all others keep the codes of the completion it starts from
            again = hole_cells(part * mask, *self.known.shape[1:]).view_as(self.known)
            before = torch.from_numpy(request.start.completion.codes[i : i + 1]).to(model.device)
            self.known = torch.where(again, -1, before)

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """What the texture generator reads of the masked picture: not before structures have been shown."""
        return self.model.image_features(self.image, self.mask)


def read_squares(
    model: Model, request: Request, i: int, drafts: Sequence[Draft], alike: dict[int, Square]
) -> Sequence[Square]:
    """Let the networks read crop i as each sample has it: one square where none of its pixels was filled before.

    Such a square serves all batches; `alike` keeps it.
    """
    crop = request.crops[i]
    seen = [c for c in request.crops[:i] if crop.overlaps(c)]  # what was filled there differs from sample to sample
    if not seen and i in alike:
        return [alike[i]]
    # what earlier squares and thin parts have filled is known here, so that neighbouring squares agree
    unknown = request.hole[crop.rows, crop.columns].copy()
    for patch in request.given:
        patch.remove(unknown, crop.rows, crop.columns)
    for other in seen:
        other.remove_own(unknown, crop)
    squares = []
    for draft in drafts if seen else drafts[:1]:
        look = partial(pixels, request, crop, tuple(draft.patches if seen else request.given))
        squares.append(Square(model, View(crop, look, unknown, model.image_size), request, i))
    if not seen:
        alike[i] = squares[0]
    return squares


def pixels(request: Request, crop: Crop, patches: Sequence[Patch]) -> np.ndarray:
    """Return a crop's part of the photo with patches put in, uint8 (h, w, 3)."""
    rgb = request.photo.rgb[crop.rows, crop.columns]
    if patches:
        rgb = rgb.copy()
    for patch in patches:
        patch.put(rgb, crop.rows, crop.columns)
    return rgb


def noise_for(model: Model, request: Request, i: int, squares: Sequence[Square], drafts: Sequence[Draft]) -> Tensor:
    """Return the noise (N, h*w, K) that decides the open codes of crop i: a function of the seeds, on the CPU."""
    h, w = squares[0].cond.shape[-2:]
    seeds = [request.noise_seed(i, draft.seed) for draft in drafts]
    sampled = torch.cat([square.known for square in squares]).lt(0).any(0).flatten().cpu().numpy()
    noise = gumbel_noise(seeds, h * w, model.structure.config.codebook_size, sampled)
    start = request.start
    if start is None or start.part is not None:
        return noise
    before = [noise_before(model, request, i, square) for square in squares]
    rows = (mix_noise(before[k % len(squares)], fresh, start.amount) for k, fresh in enumerate(noise))
    return torch.stack(list(rows))


def noise_before(model: Model, request: Request, i: int, square: Square) -> Tensor:
    """Return noise (h*w, K) with which crop i of the completion to start from would be sampled.

    What it leaves open is independent of the noise that led to the codes, which were its largest sums.
    """
    assert request.start is not None
    codes = torch.from_numpy(request.start.completion.codes[i : i + 1]).to(model.device)
    logits = model.logits(codes, square.cond)[0].flatten(1).t().cpu()  # (h*w, K)
    seed = request.noise_seed(i, 1 << 3 * SEED_BITS)  # of no sample
    other = gumbel_noise([seed], logits.shape[0], logits.shape[1])[0]
    return noise_of(codes.flatten().cpu(), logits, request.options_of(request.crops[i]), other)


def paint(model: Model, request: Request, square: Square, sampled: Sampled, k: int, draft: Draft) -> np.ndarray:
    """Paint a square of sample k and add it to the draft; return the painted square, float32 (S, S, 3) in [0, 255]."""
    codes = sampled.codes[k : k + 1]
    result = model.paint(square.features, codes, square.mask)
    painted = ((result[0].permute(1, 2, 0) + 1) * 127.5).cpu().numpy()
    paste(model, request, square, painted, codes, draft)
    draft.codes.append(codes[0].cpu().numpy())
    return painted


def paste(model: Model, request: Request, square: Square, painted: np.ndarray, codes: Tensor, draft: Draft) -> None:
    """Bring a painted square to the photo's size, colours and pixel type: a patch of the hole's own pixels."""
    crop = square.view.crop
    rows, columns = crop.box()
    which = crop.owned(rows, columns)  # pixels of the hole that are this square's: none is pasted twice
    if request.start is not None and request.start.part is not None:
        which = which & request.start.part[rows, columns]
    if not which.any():
        return
    full = square.view.finish(painted, model.vqvae.lookup(codes), model.texture.config.fuse, request.fit)
    samples = stored(request.photo, full)
    rgb = samples if request.photo.mode == "RGB" else full.round().clip(0, 255).astype(np.uint8)
    draft.patches.append(Patch(rows, columns, which, rgb, samples))
