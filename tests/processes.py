"""Several verbs of the command line in one process of their own, which imports PyTorch once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RUN = """
import io, json, sys, traceback
from contextlib import redirect_stderr, redirect_stdout
from manifill import cli
for words in json.loads(sys.argv[1]):
    sys.argv = ["manifill", *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = cli.main()
        except SystemExit as stop:
            code = stop.code
        except Exception:
            code = traceback.print_exc() or 1
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]))
"""


@dataclass(frozen=True)
class Done:
    """How a verb ended, and what it printed."""

    code: int
    out: str
    err: str


def in_one_process(*verbs: tuple[object, ...], folder: Path | None = None, **environment: str) -> list[Done]:
    """Run verbs one after another, as `manifill` would be called."""
    given = json.dumps([[str(word) for word in words] for words in verbs])
    command, env = [sys.executable, "-c", RUN, given], os.environ | environment
    ran = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [Done(*json.loads(line)) for line in ran.stdout.splitlines()]
