"""Results as bytes: PNG, zip and grid, made when they are asked for, in threads of their own."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import ParamSpec, TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from manifill.completion import Completion
from manifill.files.results import Overview, describe
from manifill.photos.decode import ImageError
from manifill.photos.encode import Format, encode, format_for
from manifill.web.jobs import Job, box
from manifill.web.limits import RefusedError

P = ParamSpec("P")
R = TypeVar("R")

LARGE = 1 << 20  # pixels from which a PNG is written fast rather than small


class Codec:
    """Threads that decode and encode pictures, so that neither the model nor the network waits for them."""

    def __init__(self, threads: int = 2) -> None:
        self.pool = ThreadPoolExecutor(threads, "codec")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in one of the threads."""
        context = copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, lambda: context.run(function, *args, **kwargs))

    async def once(self, job: Job, name: str, function: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
        """Make one of a job's files the first time it is asked for, whoever asks and stays to wait for it."""
        if name not in job.files:
            job.files[name] = asyncio.create_task(self.run(function, *args, **kwargs))
        try:
            return await asyncio.shield(job.files[name])
        except Exception:
            job.files.pop(name, None)
            raise

    async def structure(self, job: Job, index: int) -> bytes:
        """Return a structure preview as PNG. Raises RefusedError."""
        if index not in job.previews:
            raise RefusedError(404, f"the job has no structure {index}, or not yet")
        preview = job.previews[index]
        return await self.once(job, f"structure {index}", png, preview.structure, preview.seed, model(job))

    async def completion(self, job: Job, index: int) -> bytes:
        """Return a completion as PNG, which is as large as the photo and so is not kept. Raises RefusedError."""
        name = f"completion {index}"
        try:
            return await self.once(job, name, completed, find(job, index), model(job))
        finally:
            job.files.pop(name, None)

    async def encoded(self, job: Job, index: int, format: Format) -> bytes:
        """Return a completion in a format that can hold it. Raises RefusedError."""
        completion = find(job, index)
        photo = completion.request.photo
        try:
            return await self.run(encode, photo, completion.samples, format_for(photo, format), None, {})
        except ImageError as error:
            raise RefusedError(422, str(error)) from None

    async def patch(self, job: Job, index: int) -> bytes:
        """Return the part of a completion that has new pixels as PNG. Raises RefusedError."""
        return await self.once(job, f"patch {index}", patch, find(job, index))


def find(job: Job, index: int) -> Completion:
    """Return a job's completion. Raises RefusedError."""
    if index not in job.results:
        raise RefusedError(404, f"the job has no completion {index}, or not yet")
    return job.results[index]


def model(job: Job) -> str:
    """Return the name and the weights of the model."""
    return f"{job.completions.inpainter.name} {job.completions.inpainter.weights}"


def png(picture: Image.Image, seed: int, model: str) -> bytes:
    """Encode a picture; seed and model stand in text chunks."""
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_text("seed", str(seed))
    chunks.add_text("model", model)
    picture.save(buffer, "PNG", pnginfo=chunks, compress_level=1 if picture.width * picture.height > LARGE else 6)
    return buffer.getvalue()


def completed(completion: Completion, model: str) -> bytes:
    """Encode a completed photo: its own pixels and metadata; those of a CMYK photo, which PNG lacks, as on a screen."""
    photo = completion.request.photo
    if photo.mode == "CMYK":
        return png(Image.fromarray(completion.rgb), completion.seed, model)
    return encode(photo, completion.samples, "png", None, {"seed": str(completion.seed), "model": model})


def patch(completion: Completion) -> bytes:
    """Encode the part of a completion that has all of its new pixels, in the photo's own colours."""
    photo = completion.request.photo
    left, top, right, bottom = box(completion)
    part = (slice(top, bottom), slice(left, right))
    if photo.mode == "CMYK":
        return png(Image.fromarray(np.ascontiguousarray(completion.rgb[part])), completion.seed, "")
    info = {key: value for key, value in photo.info.items() if key not in ("exif", "dpi")}
    return encode(replace(photo, info=info), completion.samples[part], "png", None, {})


def grid(job: Job) -> bytes:
    """Lay out the photo, its hole and the completions that are there. Raises RefusedError."""
    results, cells = ready(job), Overview(job.completions)
    for completion in results:
        cells.add(completion)
    return png(cells.sheet(), results[0].seed, model(job))


def ready(job: Job) -> list[Completion]:
    """Return the completions that are there. Raises RefusedError when there are none."""
    if not job.results:
        raise RefusedError(404, "no completion of this job is ready yet")
    return [job.results[k] for k in sorted(job.results)]


class Sink(io.RawIOBase):
    """A file that only grows and gives away what was written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken = bytes(self.written)
        self.written.clear()
        return taken


def manifest(job: Job, results: list[Completion]) -> str:
    """Return how each completion was made, a line of JSON each, under the name that it has in the archive."""
    lines = ({**describe(job.completions, c, "mask"), "file": archived(c)} for c in results)
    return "".join(json.dumps(line) + "\n" for line in lines)


def archived(completion: Completion) -> str:
    """Return the name of a completion's file in an archive."""
    return f"{completion.index:03d}_seed_{completion.seed}.png"


def archive(manifest: str, files: list[tuple[str, bytes]]) -> Iterator[bytes]:
    """Yield a zip of files, (name, bytes), and of manifest.jsonl piece by piece."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w") as zipped:
        zipped.writestr("manifest.jsonl", manifest, zipfile.ZIP_DEFLATED)
        for name, data in files:
            zipped.writestr(name, data)
            yield sink.take()
    yield sink.take()
