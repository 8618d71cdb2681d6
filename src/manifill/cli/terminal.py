"""What is shown on a terminal, whatever names files have and whichever characters the terminal knows."""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys


def escape_what_cannot_be_shown() -> None:
    """Have characters that an output's encoding lacks written as escapes: a name must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: object) -> str:
    """Return a text on one line, with escapes for what would move the cursor or end the line."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else ascii(c)[1:-1] for c in str(text))


def counted(number: int, noun: str) -> str:
    """Return "1 photo" or "2 photos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def silence_libtiff() -> None:
    """Keep off the terminal what libtiff prints about a damaged file: Pillow, which calls it, raises an error as well.

    libtiff has one handler a process for all that opens files as Pillow does. So this is for a process of manifill's
    own; where a photo is decoded in somebody else's program, it would be silenced for that, too.
    """
    from PIL import _imaging

    with contextlib.suppress(OSError, AttributeError):  # linked into Pillow's own code, it has no name
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
