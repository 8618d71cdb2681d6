"""Reading requests: a body within limits, its fields and files, pictures. Nothing of it touches the disk."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache, partial
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from manifill.photos.decode import ImageError, Opened, decode, plugins
from manifill.photos.metadata import png_chunks
from manifill.web.limits import Limits, RefusedError
from manifill.web.schemas import Fields

F = TypeVar("F", bound=Fields)

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "AVIF", "HEIF")  # what browsers and telephones write
PARTS = 16  # files, and other fields, of a form
SLOWEST = 1 << 14  # bytes a second of a whole body, once it has taken as long as it may stall
LEFT = 499  # the client has left: nobody reads this
MALFORMED = ("json_invalid", "base64")  # what is wrong with the body itself, not with a value in it


class FormParser(MultiPartParser):
    """Starlette's parser of forms, which puts no file on the disk here and knows whether the form has ended."""

    spool_max_size = sys.maxsize
    ended = False

    def on_end(self) -> None:
        self.ended = True


class Uploads:
    """All uploads on their way to this server, which together may take half of its memory."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.bytes = limits, 0

    async def read(self, request: Request, kind: type[F]) -> F:
        """Return the fields and files of a request, a form or JSON with files in base64. Raises RefusedError."""
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in ("multipart/form-data", "application/json"):
            found = repr(given[:80]) if given else "missing"
            raise RefusedError(415, f"the content type is {found}; expected multipart/form-data or application/json")
        try:
            if given == "multipart/form-data":
                return kind.model_validate(await self.form(request))
            body = b"".join([chunk async for chunk in self.chunks(request)])
            return await asyncio.to_thread(partial(kind.model_validate_json, body, strict=True))
        except ValidationError as error:
            found = error.errors(include_url=False)[:5]
            status = 400 if found[0]["type"] in MALFORMED else 422
            raise RefusedError(status, "; ".join(field_error(kind, e) for e in found)) from None

    async def form(self, request: Request) -> dict[str, str | bytes]:
        """Return a form's fields, str, and files, bytes; what is empty counts as not given. Raises RefusedError."""

        async def to_the_end() -> AsyncGenerator[bytes]:
            async for chunk in chunks:
                yield chunk
            if not parser.ended:
                raise MultiPartException("it ends too early, or its boundary is another than the content type says")

        limits = {"max_files": PARTS, "max_fields": PARTS, "max_part_size": self.limits.body_bytes}
        found = dict[str, str | bytes]()
        try:
            async with aclosing(self.chunks(request)) as chunks:  # what it counts ends here, whatever the form is
                form = await (parser := FormParser(request.headers, to_the_end(), **limits)).parse()
        except MultiPartException as error:
            raise RefusedError(400, f"the form cannot be read ({error.message})") from None
        parts = [(n, part if isinstance(part, str) else await part.read()) for n, part in form.multi_items()]
        await form.close()
        for name, content in parts:
            if content and name in found:
                raise RefusedError(422, f"{name[:80]} is given more than once")
            if content:
                found[name] = content
        return found

    async def chunks(self, request: Request) -> AsyncGenerator[bytes]:
        """Yield a body piece by piece. Raises RefusedError for too long a one and for one that stalls."""
        stream, size, began = aiter(request.stream()), 0, time.monotonic()
        announced, limits = request.headers.get("content-length", ""), self.limits
        too_long = RefusedError(413, f"the request has more bytes than this server takes, {limits.body_bytes}")
        if announced.isdigit() and int(announced) > limits.body_bytes:
            raise too_long
        try:
            while True:
                async with asyncio.timeout(limits.stall_seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return
                size, self.bytes = size + len(chunk), self.bytes + len(chunk)
                late = time.monotonic() - began - limits.stall_seconds
                if size < late * SLOWEST:
                    raise RefusedError(408, f"only {size} bytes came in {late + limits.stall_seconds:.0f} seconds")
                if size > limits.body_bytes:
                    raise too_long
                if self.bytes > limits.memory_bytes // 2:
                    raise RefusedError(429, "the server is receiving too many photos at once; try again in a moment")
                yield chunk
        except TimeoutError:
            raise RefusedError(408, f"nothing came for {limits.stall_seconds:g} seconds; send it again") from None
        except ClientDisconnect:
            raise RefusedError(LEFT, "the client has left") from None
        finally:
            self.bytes -= size


def field_error(kind: type[Fields], error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field."""
    name, found, words = ".".join(map(str, error["loc"]))[:80] or "the body", error["input"], error["msg"]
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "extra_forbidden":
        return f"{name} is no field of this request; fields are {', '.join(kind.model_fields)}"
    shown = repr(found[:60] if isinstance(found, str | bytes) else found)
    return f"{name} is {shown if len(shown) < 60 else shown[:57] + '...'}; {words[0].lower()}{words[1:]}"


def open_upload(data: bytes, role: str, limits: Limits) -> Opened:
    """Decode a picture of one of FORMATS. Raises RefusedError, whatever the bytes."""
    try:
        w, h = size_of(data)
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
    except ImageError as error:
        raise RefusedError(400, str(error)) from error
    except Exception as error:  # decoders meet damage in many ways; whatever it is, the file is at fault
        raise RefusedError(400, f"the {role} is damaged or truncated ({error})") from error


def size_of(data: bytes) -> tuple[int, int]:
    """Return width and height of a picture of one of FORMATS, as its header says. Raises what Pillow raises."""
    with Image.open(io.BytesIO(png_chunks(data)[0]), formats=known_formats()) as file:
        return file.size


@cache
def known_formats() -> tuple[str, ...]:
    """Return those of FORMATS that Pillow reads here."""
    plugins()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
