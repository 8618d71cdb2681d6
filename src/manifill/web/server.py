"""What all requests share: the models, their worker, the limits, the threads that decode and encode."""

from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar, TypeVarTuple, cast

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from fastapi import Request
from PIL import Image

from manifill.completion import Completion
from manifill.config import Fit, SamplingOptions
from manifill.inpainter import Completions, Inpainter
from manifill.photos.decode import Opened
from manifill.photos.mask import load_mask
from manifill.photos.photo import Photo, load_photo
from manifill.web import results, schemas
from manifill.web.extend import Sides, extend
from manifill.web.jobs import Job, Jobs
from manifill.web.limits import DECODED, FREE, Limits, RefusedError
from manifill.web.requests import LEFT, Uploads, known_formats, open_upload, size_of

One = TypeVar("One", bound=schemas.One)
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

SMALL = 1 << 20  # pixels of a photo that is planned in a moment, whatever its hole


class Server:
    """What all requests share; `codecs` are threads, so that neither the model nor the network waits for pictures.

    Large photos have one for themselves: a hole of a million dots takes seconds, for which small ones do not wait.
    """

    def __init__(self, inpainters: Sequence[Inpainter], limits: Limits) -> None:
        self.inpainters, self.limits = inpainters, limits  # the first inpainter fills where a request names none
        self.jobs, self.uploads = Jobs(limits), Uploads(limits)
        self.codecs, self.large = CapacityLimiter(2), CapacityLimiter(1)
        known_formats()  # Pillow loads its decoders now, before threads do

    async def run(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        """Call a function in one of the threads that decode and encode pictures."""
        return await anyio.to_thread.run_sync(function, *args, limiter=self.codecs)

    async def made(
        self,
        request: Request,
        pictures: Sequence[bytes | None],
        function: Callable[[*Ts], R],
        *args: *Ts,
        sides: Sides = (0, 0, 0, 0),
    ) -> R:
        """Return what comes of a request's pictures, unless the client leaves before. Raises RefusedError.

        The first is the photo, to which `sides` are added; the mask, where it is missing, is as large.
        """
        sizes = await self.run(pixel_counts, [data or pictures[0] for data in pictures], sides)
        large = max(sizes, default=0) > SMALL

        async def making() -> R:
            with self.jobs.room(sum(len(data) for data in pictures if data)):
                async with self.large if large else self.codecs:
                    with self.jobs.room(max(0, DECODED * sum(sizes) - FREE)):
                        return await anyio.to_thread.run_sync(function, *args)

        try:
            return await unless_gone(making(), request)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None

    async def asked(self, request: Request) -> Job:
        """Return the job that a request for completions of a photo asks for. Raises RefusedError."""
        self.jobs.check_line()  # before anything is read
        settings = await self.uploads.read(request, schemas.Settings)
        self.check_samples(settings.num_samples, settings.of or 0)
        self.model(settings.model)
        pictures = settings.photo, settings.mask
        return Job(await self.made(request, pictures, self.complete, settings, sides=settings.sides))

    async def about_completion(self, request: Request, id: str, kind: type[One]) -> tuple[One, Completion, Inpainter]:
        """Return what is asked about a job's completion, that completion, and what made it. Raises RefusedError."""
        self.jobs.check_line()
        asked = await self.uploads.read(request, kind)
        self.check_samples(asked.num_samples)
        job = self.jobs.find(id)
        return asked, results.find(job, asked.index), cast(Inpainter, job.completions.inpainter)

    def check_samples(self, *counts: int) -> None:
        """Raise RefusedError for more samples than are drawn here."""
        if max(counts) > self.limits.samples:
            asked, most = max(counts), self.limits.samples
            raise RefusedError(422, f"{asked} samples are asked for; this server draws {most} at most")

    def model(self, name: str | None) -> Inpainter:
        """Return the model of this name, the first without one. Raises RefusedError."""
        found = self.inpainters[0] if name is None else next((m for m in self.inpainters if m.name == name), None)
        if found is None:
            names = ", ".join(m.name for m in self.inpainters)
            raise RefusedError(422, f"model is {name!r}; this server has {names}")
        return found

    def opened(self, asked: schemas.Hole) -> tuple[Photo, Opened | None]:
        """Decode photo and mask."""
        photo = load_photo(open_upload(asked.photo, "photo", self.limits))
        return photo, open_upload(asked.mask, "mask", self.limits) if asked.mask else None

    def complete(self, s: schemas.Settings) -> Completions:
        """Decode photo and mask and return what is asked for."""
        photo, hole = self.opened(s)
        own = ("num_samples", "seed", "known_codes", "of", "choose")
        given: dict[str, Any] = {name: getattr(s, name) for name in own} | s.only(SamplingOptions)
        if any(s.sides):
            photo, hole = extend(photo, hole, s.sides, self.limits, s.invert_mask)
        else:
            given["invert_mask"] = s.invert_mask
        return self.model(s.model)(photo, hole, fit=Fit(**s.only(Fit)), **given)

    def hole(self, asked: schemas.Hole) -> tuple[bytes, list[str]]:
        """Return what is taken as the hole, as PNG, and the warnings about it."""
        notes: list[str] = []
        photo, mask = self.opened(asked)
        found, buffer = load_mask(mask, photo, asked.invert_mask, notes), io.BytesIO()
        Image.fromarray(found.astype(np.uint8) * 255).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), [*photo.notes, *notes]

    async def finished(self, job: Job, request: Request) -> None:
        """Have a job drawn and wait for it. Raises RefusedError when it fails or the client leaves."""
        self.jobs.submit(job)
        try:
            await unless_gone(job.ended.wait(), request)
        finally:
            self.jobs.forget(job.id)
        if job.events[-1][0] != "done":
            raise RefusedError(*job.failure)

    def examples(self) -> Iterator[Completions]:
        """Yield one completion of a black square by each model."""
        for model in {id(m): m for inpainter in self.inpainters for m in inpainter.members}.values():
            size = model.image_size
            hole = np.zeros((size, size), np.bool_)
            hole[size // 4 : -size // 4, size // 4 : -size // 4] = True
            with warnings.catch_warnings(action="ignore"):  # a black square is like nothing that a model knows
                yield model(np.zeros((size, size, 3), np.uint8), hole, num_samples=1, seed=0)

    def accepted(self, job: Job) -> schemas.Accepted:
        """Put a job into the line and say where to listen."""
        self.jobs.submit(job)
        seeds, warnings = list(job.completions.seeds), list(job.completions.notes)
        return schemas.Accepted(id=job.id, seeds=seeds, events=f"/api/v1/jobs/{job.id}/events", warnings=warnings)


async def unless_gone(work: Coroutine[Any, Any, R], request: Request) -> R:
    """Return what `work` returns. Raises RefusedError, and cancels it, when the client leaves before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RefusedError(LEFT, "the client has left")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def pixel_counts(pictures: Sequence[bytes | None], sides: Sides) -> list[int]:
    """Return how many pixels pictures have by their headers, 0 where one cannot be read, which is soon refused."""
    (left, top, right, bottom), found = sides, list[int]()
    for data in pictures:
        try:
            width, height = size_of(data or b"")
            found.append((width + min(left + right, width)) * (height + min(top + bottom, height)))
        except Exception:  # decoders meet damage in many ways, and decoding it says which
            found.append(0)
    return found
