"""The command line: one verb a function; heavy imports inside each verb."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import tyro

from manifill.cli.data import data
from manifill.cli.evaluate import ablate, evaluate, masks
from manifill.cli.hub import push
from manifill.cli.inpaint import info, inpaint
from manifill.cli.serve import serve
from manifill.cli.terminal import escape_what_cannot_be_shown, printable
from manifill.cli.train import convert, pack, train


def _warn(message: Any, *_: Any, **__: Any) -> None:
    print(f"manifill: warning: {printable(message)}", file=sys.stderr)


def main() -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    verbs = {
        "inpaint": inpaint,
        "serve": serve,
        "info": info,
        "train": train,
        "data": data,
        "evaluate": evaluate,
        "masks": masks,
        "ablate": ablate,
        "convert": convert,
        "pack": pack,
        "push": push,
    }
    warnings.showwarning = _warn
    escape_what_cannot_be_shown()
    try:
        return tyro.extras.subcommand_cli_from_dict(verbs, prog="manifill", description=__doc__)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError) as error:  # the last: a training that diverges
        print(f"manifill: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("manifill: interrupted", file=sys.stderr)
        return 130
