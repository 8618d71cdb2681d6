"""Forms, multipart/form-data, read in memory: files and fields by name, nothing on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from manifill.web.limits import RefusedError

PARTS = 32  # of a form
LONGEST = 1 << 12  # bytes of a field that is no file


@dataclass
class Part:
    """One part of a form: its headers, and its content."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    content: bytearray = field(default_factory=bytearray)


class Form:
    """What a parser finds in a form."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.header, self.value = b"", b""
        self.whole = False

    def begin(self) -> None:
        """A part begins."""
        if len(self.parts) == PARTS:
            raise RefusedError(400, f"the form has more than {PARTS} parts")
        self.parts.append(Part())

    def add_header(self, data: bytes, start: int, end: int) -> None:
        """More of a header's name."""
        self.header += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        """More of a header's value."""
        self.value += data[start:end]

    def end_header(self) -> None:
        """A header is complete."""
        self.parts[-1].headers[self.header.lower()] = self.value
        self.header, self.value = b"", b""

    def end_headers(self) -> None:
        """All headers of a part are known: who it is."""
        part = self.parts[-1]
        _, options = parse_options_header(part.headers.get(b"content-disposition"))
        if not options.get(b"name"):
            raise RefusedError(400, "a part of the form has no name")
        part.name, part.is_file = options[b"name"].decode("utf-8", "replace"), b"filename" in options

    def add(self, data: bytes, start: int, end: int) -> None:
        """More of a part's content."""
        part = self.parts[-1]
        part.content += data[start:end]
        if not part.is_file and len(part.content) > LONGEST:
            raise RefusedError(422, f"{part.name[:80]} has more than {LONGEST} bytes; files need a file name")

    def end(self) -> None:
        """The form is complete."""
        self.whole = True


async def read_form(content_type: str, chunks: AsyncIterator[bytes]) -> list[Part]:
    """Return the parts of a form. Raises RefusedError for one that is malformed or ends too early."""
    _, options = parse_options_header(content_type)
    form = Form()
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": form.begin,
                "on_header_field": form.add_header,
                "on_header_value": form.add_value,
                "on_header_end": form.end_header,
                "on_headers_finished": form.end_headers,
                "on_part_data": form.add,
                "on_end": form.end,
            },
        )
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise RefusedError(400, f"the form cannot be read ({error})") from error
    if not form.whole:
        raise RefusedError(400, "the form ends too early, or its boundary is another than the content type says")
    return form.parts
