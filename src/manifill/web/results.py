"""Results as bytes, made when they are asked for. All functions raise RefusedError for what is not there."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

from PIL import Image

from manifill.completion import Completion
from manifill.files.results import Overview, describe, png_bytes, png_text
from manifill.photos.decode import ImageError
from manifill.photos.encode import Format, encode, format_for
from manifill.photos.lossless import png
from manifill.photos.view import recoloured, retouched
from manifill.web.jobs import Job, changed_box
from manifill.web.limits import RefusedError


def find(job: Job, index: int) -> Completion:
    """Return a job's completion."""
    if index not in job.results:
        raise RefusedError(404, f"the job has no completion {index}, or not yet")
    return job.results[index]


def ready(job: Job) -> list[Completion]:
    """Return the completions that are there."""
    if not job.results:
        raise RefusedError(404, "no completion of this job is ready yet")
    return [job.results[k] for k in sorted(job.results)]


def structure_png(job: Job, index: int) -> bytes:
    """Encode a structure preview."""
    if index not in job.previews:
        raise RefusedError(404, f"the job has no structure {index}, or not yet")
    return png_bytes(job.previews[index].structure, png_text(job.completions, job.previews[index].seed))


def completed(job: Job, index: int) -> bytes:
    """Encode a completed photo: its own pixels and metadata; those of a CMYK photo, which PNG lacks, as on a screen."""
    completion = find(job, index)
    photo = completion.request.photo
    if photo.mode == "CMYK":
        return png_bytes(Image.fromarray(completion.rgb), png_text(job.completions, completion.seed))
    return encode(photo, completion.samples, "png", None, png_text(job.completions, completion.seed))


def encoded(job: Job, index: int, format: Format) -> tuple[bytes, list[str]]:
    """Encode a completion in a format that can hold it, else RefusedError; return the warnings about it too."""
    completion = find(job, index)
    photo, notes = completion.request.photo, list[str]()
    try:
        return encode(photo, completion.samples, format_for(photo, format, notes=notes), None, {}), notes
    except ImageError as error:
        raise RefusedError(422, str(error)) from None


def patch(job: Job, index: int) -> bytes:
    """Encode the part of a completion that has all of its new pixels, in the photo's colours, quickly: to be shown."""
    completion = find(job, index)
    photo = completion.request.photo
    left, top, right, bottom = changed_box(completion)
    part = (slice(top, bottom), slice(left, right))
    if photo.mode == "CMYK":
        part = Image.fromarray(recoloured(photo.rgb, completion.patches, part))
        return png_bytes(part, png_text(job.completions, completion.seed))
    info = {key: value for key, value in photo.info.items() if key not in ("exif", "dpi")}
    return png(replace(photo, info=info), retouched(photo.samples, completion.patches, part), {}, quick=True)


def grid_png(job: Job) -> bytes:
    """Lay out the photo, its hole and the completions that are there."""
    results, cells = ready(job), Overview(job.completions)
    for completion in results:
        cells.add(completion)
    return png_bytes(cells.sheet(), png_text(job.completions, results[0].seed))


def archive(job: Job) -> bytes:
    """Pack the completions that are there, and manifest.jsonl, which says how each was made."""
    found = {f"{c.index:03d}_seed_{c.seed}.png": c for c in ready(job)}
    lines = [{**describe(job.completions, c, "mask"), "file": name} for name, c in found.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("manifest.jsonl", "".join(json.dumps(line) + "\n" for line in lines), zipfile.ZIP_DEFLATED)
        for name, completion in found.items():
            zipped.writestr(name, completed(job, completion.index))
    return buffer.getvalue()
