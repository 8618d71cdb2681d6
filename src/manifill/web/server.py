"""What all requests share: the model's worker, the limits, the page's files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, cast

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from PIL import Image

from manifill.config import Fit, Sampling, SamplingOptions
from manifill.inpainter import Completions, Inpainter
from manifill.photos.mask import load_mask
from manifill.photos.photo import load_photo
from manifill.web import files, schemas
from manifill.web.extend import extend
from manifill.web.jobs import Job, Jobs
from manifill.web.limits import Limits, RefusedError
from manifill.web.requests import Uploads, known_formats, open_picture
from manifill.web.results import Codec
from manifill.web.stream import unless_gone

P = ParamSpec("P")


@dataclass
class Server:
    """What all requests share."""

    inpainter: Inpainter
    limits: Limits
    files: dict[str, files.File]
    jobs: Jobs = field(init=False)
    uploads: Uploads = field(init=False)
    codec: Codec = field(default_factory=Codec)

    def __post_init__(self) -> None:
        self.jobs, self.uploads = Jobs(self.inpainter, self.limits), Uploads(self.limits)
        known_formats()  # Pillow loads its decoders now, before threads do

    async def asked(self, request: Request) -> Job:
        """Return the job that a request for completions of a photo asks for. Raises RefusedError."""
        self.jobs.check_line()  # before anything is read
        body = await self.uploads.read(request, "photo", "mask")
        settings = body.checked(schemas.Settings)
        self.check_samples(settings.num_samples, settings.of or 0)
        return await self.prepared(request, self.complete, body.file("photo"), body.files.get("mask"), settings)

    def check_samples(self, *counts: int) -> None:
        """Raise RefusedError for more samples than are drawn here."""
        if max(counts) > self.limits.samples:
            raise RefusedError(
                422, f"{max(counts)} samples are asked for; this server draws {self.limits.samples} at most"
            )

    def complete(self, photo: bytes, mask: bytes | None, s: schemas.Settings) -> Completions:
        """Decode photo and mask and return what is asked for."""
        picture = load_photo(open_picture(photo, "photo", self.limits))
        hole = open_picture(mask, "mask", self.limits) if mask else None
        if any(s.sides):
            picture, hole = extend(picture, hole, s.sides, self.limits)
        return self.inpainter(
            picture,
            hole,
            num_samples=s.num_samples,
            seed=s.seed,
            invert_mask=s.invert_mask,
            known_codes=s.known_codes,
            of=s.of,
            choose=s.choose,
            fit=Fit(**s.only(Fit)),
            **cast(Sampling, s.only(SamplingOptions)),
        )

    async def hole(self, photo: bytes, mask: bytes | None, invert: bool) -> tuple[bytes, list[str]]:
        """Return what is taken as the hole, as PNG, and the warnings about it. Raises RefusedError."""

        def read() -> tuple[bytes, list[str]]:
            notes: list[str] = []
            own = load_photo(open_picture(photo, "photo", self.limits))
            found = load_mask(open_picture(mask, "mask", self.limits) if mask else None, own, invert, notes)
            buffer = io.BytesIO()
            Image.fromarray(found.astype(np.uint8) * 255).save(buffer, "PNG", compress_level=1)
            return buffer.getvalue(), notes

        try:
            return await self.codec.run(read)
        except ValueError as error:
            raise RefusedError(400, str(error)) from None

    async def prepared(
        self, request: Request, make: Callable[P, Completions], *args: P.args, **kwargs: P.kwargs
    ) -> Job:
        """Return a job of what `make` returns, which runs in another thread, unless the client leaves before.

        Raises RefusedError.
        """
        try:
            return Job(await unless_gone(self.codec.run(make, *args, **kwargs), request.receive))
        except ValueError as error:
            raise RefusedError(400, str(error)) from None

    async def finished(self, job: Job, request: Request) -> None:
        """Have a job drawn and wait for it. Raises RefusedError when it fails or the client leaves."""
        self.jobs.submit(job)
        try:
            await unless_gone(job.ended.wait(), request.receive)
        finally:
            self.jobs.forget(job.id)
        if job.state != "done":
            raise RefusedError(*job.failure)

    def example(self) -> Completions:
        """Return one completion of a black square."""
        size = self.inpainter.image_size
        hole = np.zeros((size, size), np.bool_)
        hole[size // 4 : -size // 4, size // 4 : -size // 4] = True
        with warnings.catch_warnings(action="ignore"):  # a black square is like nothing that a model knows
            return self.inpainter(np.zeros((size, size, 3), np.uint8), hole, num_samples=1, seed=0)

    def accepted(self, job: Job) -> JSONResponse:
        """Put a job into the line and say where to listen."""
        self.jobs.submit(job)
        answer = schemas.Accepted(
            id=job.id,
            seeds=list(job.completions.seeds),
            events=f"/api/v1/jobs/{job.id}/events",
            warnings=list(job.completions.notes),
        )
        return JSONResponse(answer.model_dump(), 202)
