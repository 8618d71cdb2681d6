"""The command line: one verb a function; heavy imports inside each verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def train(
    stage: Annotated[Literal["all", "vqvae", "structure", "texture"], tyro.conf.Positional],
    /,
    data: tuple[Path, ...],
    out: Path,
    preset: Literal["paper-256", "faces-128", "tiny"] = "paper-256",
    val: tuple[Path, ...] = (),
    seed: int = 0,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    precision: Literal["bf16", "fp32"] = "bf16",
    limit: int | None = None,
    log_every: int = 50,
    validate_every: int = 500,
    checkpoint_every: int = 250,
    quiet: bool = False,
    force: bool = False,
) -> int:
    """Train the networks; the same command resumes after an interruption."""
    from manifill.train.stages import STAGES, RunOptions
    from manifill.train.stages import train as run_stages

    stages = STAGES if stage == "all" else (stage,)
    options = RunOptions(seed, steps, batch_size, learning_rate, precision, limit, log_every, validate_every,
                         checkpoint_every, quiet, force)  # fmt: skip
    run_stages(stages, data, out, preset, options, val)
    return 0


def main() -> int:
    """Run one verb; a user's mistake ends with one sentence on stderr and exit code 2."""
    try:
        return tyro.extras.subcommand_cli_from_dict({"train": train}, prog="manifill")
    except (ValueError, OSError) as error:
        print(f"manifill: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
