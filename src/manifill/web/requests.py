"""Reading requests: a body within limits, its files and fields, pictures. Nothing of it touches the disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from manifill.photos.decode import ImageError, Opened, decode, plugins
from manifill.photos.metadata import png_chunks
from manifill.web.forms import Part, read_form
from manifill.web.limits import Limits, RefusedError
from manifill.web.schemas import Fields

F = TypeVar("F", bound=Fields)

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "AVIF", "HEIF")  # what browsers and telephones write
SLOWEST = 1 << 14  # bytes a second of a whole body, once it has taken as long as it may stall
LEFT = 499  # the client has left: nobody reads this


@dataclass(frozen=True)
class Body:
    """What a request brings: files and fields by name; the fields of JSON, unlike those of a form, have types."""

    files: dict[str, bytes]
    fields: dict[str, Any]
    typed: bool

    def checked(self, kind: type[F]) -> F:
        """Return the fields as `kind` says. Raises RefusedError that names what is wrong."""
        try:
            return kind.model_validate(self.fields, strict=self.typed)
        except ValidationError as error:
            raise RefusedError(422, "; ".join(in_words(kind, e) for e in error.errors()[:5])) from None

    def file(self, name: str) -> bytes:
        """Return a file. Raises RefusedError where it is missing or empty."""
        if not self.files.get(name):
            raise RefusedError(422, f"{name} is missing")
        return self.files[name]


def in_words(kind: type[Fields], error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field."""
    name = ".".join(str(part) for part in error["loc"])[:80]
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "extra_forbidden":
        return f"{name} is no field of this request; fields are {', '.join(kind.model_fields)}"
    found = repr(error["input"])
    return f"{name} is {found if len(found) < 60 else found[:57] + '...'}; {error['msg'][0].lower()}{error['msg'][1:]}"


class Uploads:
    """All uploads on their way to this server, which together may take half of its memory."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.bytes = limits, 0

    async def read(self, request: Request, *files: str) -> Body:
        """Return what a request brings: a form, or JSON with files, of the given names, in base64.

        Raises RefusedError.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("multipart/form-data", "application/json"):
            found = repr(kind[:80]) if kind else "missing"
            raise RefusedError(415, f"the content type is {found}; expected multipart/form-data or application/json")
        self.check_length(request.headers.get("content-length"))
        if kind == "application/json":
            body = b"".join([chunk async for chunk in self.chunks(request)])
            return await asyncio.to_thread(parse_json, body, files)
        return sorted_out(await read_form(request.headers["content-type"], self.chunks(request)), files)

    def check_length(self, announced: str | None) -> None:
        """Raise RefusedError for a body that announces more bytes than are taken."""
        if announced and announced.isdigit() and int(announced) > self.limits.body_bytes:
            self.refuse_size(f"{int(announced)} bytes")

    def refuse_size(self, found: str) -> NoReturn:
        """Raise RefusedError."""
        raise RefusedError(413, f"the request has {found}; this server takes at most {self.limits.body_bytes} bytes")

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield a body piece by piece. Raises RefusedError for too long a one and for one that stalls."""
        stream, size, began = aiter(request.stream()), 0, time.monotonic()
        try:
            while True:
                async with asyncio.timeout(self.limits.stall_seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return
                size, self.bytes = size + len(chunk), self.bytes + len(chunk)
                late = time.monotonic() - began - self.limits.stall_seconds
                if size < late * SLOWEST:
                    raise RefusedError(408, f"only {size} bytes came in {late + self.limits.stall_seconds:.0f} seconds")
                if size > self.limits.body_bytes:
                    self.refuse_size(f"more than {self.limits.body_bytes} bytes")
                if self.bytes > self.limits.memory_bytes // 2:
                    raise RefusedError(429, "the server is receiving too many photos at once; try again in a moment")
                yield chunk
        except TimeoutError:
            words = f"nothing came for {self.limits.stall_seconds:g} seconds; send it again"
            raise RefusedError(408, words) from None
        except ClientDisconnect:
            raise RefusedError(LEFT, "the client has left") from None
        finally:
            self.bytes -= size


def sorted_out(parts: list[Part], files: tuple[str, ...]) -> Body:
    """Return a form's files and fields; what is empty counts as not given. Raises RefusedError."""
    given = [part for part in parts if part.content]
    names = [part.name for part in given]
    for part in given:
        if names.count(part.name) > 1:
            raise RefusedError(422, f"{part.name[:80]} is given {names.count(part.name)} times; expected once")
        if part.is_file and part.name not in files:
            raise RefusedError(422, f"{part.name[:80]}: expected no file; files are {', '.join(files) or 'not taken'}")
        if not part.is_file and part.name in files:
            raise RefusedError(422, f"{part.name[:80]}: expected a file")
    fields = {part.name: part.content.decode("utf-8", "replace") for part in given if not part.is_file}
    return Body({part.name: bytes(part.content) for part in given if part.is_file}, fields, typed=False)


def parse_json(body: bytes, files: tuple[str, ...]) -> Body:
    """Return the files, decoded from base64, and the fields of a JSON object. Raises RefusedError."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise RefusedError(422, f"the body is a JSON {type(found).__name__}; expected an object with fields")
    uploads = {name: from_base64(name, found.pop(name)) for name in files if found.get(name) is not None}
    return Body(uploads, {name: value for name, value in found.items() if name not in files}, typed=True)


def from_base64(name: str, text: object) -> bytes:
    """Decode base64, with or without the start of a data address. Raises RefusedError."""
    if not isinstance(text, str):
        raise RefusedError(422, f"{name} is a JSON {type(text).__name__}; expected a picture in base64")
    try:
        return base64.b64decode(re.sub(r"^data:[^,]{0,100},|\s", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"{name} is not base64 ({error})") from error


def open_picture(data: bytes, role: str, limits: Limits) -> Opened:
    """Decode a picture of one of FORMATS. Raises RefusedError, whatever the bytes."""
    try:
        with Image.open(io.BytesIO(png_chunks(data)[0]), formats=known_formats()) as file:
            w, h = file.size
        if w * h > limits.pixels:
            raise RefusedError(413, f"the {role} has {w}x{h} pixels; this server takes {limits.pixels} in all")
        return decode(data, f"the {role}", role)
    except RefusedError:
        raise
    except UnidentifiedImageError:
        found = f"the {role} ({len(data)} bytes) is not a picture that can be read"
        raise RefusedError(400, f"{found}; expected {', '.join(known_formats())}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedError(413, f"the {role} has more pixels than this server takes, {limits.pixels} in all") from error
    except MemoryError:
        raise RefusedError(413, f"the {role} needs more memory than there is") from None
    except ImageError as error:
        raise RefusedError(400, str(error)) from error
    except Exception as error:  # decoders meet damage in many ways; whatever it is, the file is at fault
        raise RefusedError(400, f"the {role} is damaged or truncated ({error})") from error


@cache
def known_formats() -> tuple[str, ...]:
    """Return those of FORMATS that Pillow reads here."""
    plugins()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
