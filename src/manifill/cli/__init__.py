"""The command line: one verb a function; heavy imports inside each verb."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import DisallowNone, PositionalMetavarFromFieldName

from manifill import __version__
from manifill.cli.terminal import escape_what_cannot_be_shown, printable, silence_libtiff
from manifill.config import ManifillWarning

VERBS = {  # the module here that each is a function of; one verb need not wait for the others' options
    "inpaint": "inpaint",
    "serve": "serve",
    "info": "inpaint",
    "train": "train",
    "data": "data",
    "evaluate": "evaluate",
    "masks": "evaluate",
    "ablate": "evaluate",
    "figures": "evaluate",
    "convert": "train",
    "pack": "train",
    "push": "hub",
}
DESCRIPTION = """\
Fill the holes of photos, in many different ways.

  manifill inpaint photo.jpg mask.png -o out     8 ways to fill what is white in mask.png
  manifill inpaint photos/ masks/ -o out -n 4    4 ways each for a folder of photos
  manifill serve --open                          a page to paint holes and fill them

manifill VERB --help describes a verb, manifill --version says which version this is."""


def _warn(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Show what manifill has to say; what libraries tell their programmers is shown with PYTHONWARNINGS alone."""
    if issubclass(category, ManifillWarning):
        print(f"manifill: warning: {printable(message)}", file=sys.stderr)
    elif sys.warnoptions:
        print(warnings.formatwarning(message, category, *place[:2]), file=sys.stderr, end="")


def _unknown(verb: str) -> str:
    """Return in words that there is no such verb, and what may have been meant."""
    said = f"{verb}: no such verb"
    if near := difflib.get_close_matches(verb, VERBS, 1):
        return f"{said}; did you mean {near[0]}?"
    if Path(verb).exists():
        return f"{said}; to fill a photo's hole: manifill inpaint {verb} MASK -o FOLDER"
    return f"{said}; expected {', '.join(VERBS)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2.

    `arguments` are those of the command line unless given. Raises SystemExit where these cannot be understood.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    warnings.showwarning = _warn
    logging.basicConfig(handlers=[logging.NullHandler()])  # libraries' logs would go to stderr where nobody takes them
    escape_what_cannot_be_shown()
    if given[0] in ("--version", "-V"):
        print(f"manifill {__version__}")
        return 0
    if not given[0].startswith("-") and given[0] not in VERBS:
        print(f"manifill: {printable(_unknown(given[0]))}", file=sys.stderr)
        return 2
    if not {"-h", "--help"} & set(given):
        silence_libtiff()
    verbs = [given[0]] if given[0] in VERBS else list(VERBS)
    try:
        return tyro.extras.subcommand_cli_from_dict(
            {verb: getattr(import_module(f"{__name__}.{VERBS[verb]}"), verb) for verb in verbs},
            prog="manifill",
            description=DESCRIPTION,
            args=given,
            config=(DisallowNone, PositionalMetavarFromFieldName),
        )
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError) as error:  # the last: a training that diverges
        print(f"manifill: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("manifill: interrupted", file=sys.stderr)
        return 130
