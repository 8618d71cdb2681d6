"""The page's files, read once when the server starts: no path of a request ever reaches the file system."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

from manifill.web.limits import RefusedError
from manifill.web.schemas import Sample

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
SAMPLES = (
    Sample(
        name="astronaut",
        photo="/static/samples/astronaut.png",
        mask="/static/samples/centre.png",
        alt="Portrait of an astronaut who smiles at the camera",
    ),
    Sample(
        name="portrait",
        photo="/static/samples/portrait.png",
        mask="/static/samples/portrait_mask.png",
        alt="An astronaut in an orange suit, half length, smiles at the camera",
    ),
)


@dataclass(frozen=True)
class File:
    """One file of the page."""

    data: bytes
    type: str
    tag: str

    def answer(self, known: str | None) -> Response:
        """Return the file, or 304 to a browser that has it already."""
        headers = {"etag": self.tag, "cache-control": "no-cache"}
        if known is not None and self.tag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.data, media_type=self.type, headers=headers)


def read_all(folder: Path = STATIC) -> dict[str, File]:
    """Return all files of a folder and the folders in it, by their path from there, "samples/astronaut.png"."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in TYPES:
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            found[path.relative_to(folder).as_posix()] = File(data, TYPES[path.suffix], tag)
    return found


def find(files: dict[str, File], name: str) -> File:
    """Return a file. Raises RefusedError."""
    if name not in files:
        raise RefusedError(404, "no such page")
    return files[name]
