"""Whether a stage was long enough for what shows in it to mean anything. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ENOUGH = 0.75  # of the preset's steps: with less, pictures are blurred or streaked though no figure looks wrong
SHORT = 0.25  # below which all else that shows comes of that


def in_minutes(minutes: float) -> str:
    """Return "1 minute" or "30 minutes"."""
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def minutes_needed(settings: Mapping[str, Any], taken: int) -> int:
    """Return minutes, a multiple of 5, for the preset's steps; 0 for a stage that was long enough or goes on.

    `settings` are the stage's, `taken` the steps it has taken.
    """
    usual, minutes = settings.get("usual_steps"), settings.get("minutes")
    through = taken >= settings.get("training", {}).get("steps", math.inf)
    if not through or not usual or not minutes or taken >= ENOUGH * usual:
        return 0
    return math.ceil(minutes * usual / max(taken, 1) / 5) * 5


def too_short(settings: Mapping[str, Any], taken: int) -> str | None:
    """Say when a stage that is through was given less time than it takes."""
    minutes = minutes_needed(settings, taken)
    if not minutes:
        return None
    return (
        f"It stopped after {taken} of about {settings['usual_steps']:,} steps. Give it {in_minutes(minutes)}: the same "
        f"command with --minutes {minutes} goes on."
    )
