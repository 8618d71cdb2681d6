"""What a server does not do: its limits, and the refusal that says so."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.exceptions import HTTPException

DECODED = 12  # bytes a pixel of photo and mask that are in use while both are decoded and the hole is planned
VIEWED = 20  # bytes a pixel of the largest square that are in use while it is seen and pasted
FREE = 1 << 25  # bytes of either that are not counted: small pictures take no room from anybody


class RefusedError(HTTPException):
    """A request that is not carried out: the HTTP status and one sentence for whoever sent it."""


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    `pixels` of a photo or mask; `samples` drawn for a request; `structures` drawn for it, samples times crops; `queue`
    requests that wait for the model; `body_bytes` of a request; `memory_bytes` of all photos and results that are kept,
    decoded and worked on, half as much of uploads on their way. A job is cancelled `grace_seconds` after its last
    listener has left and forgotten `kept_seconds` after it has ended; an upload is given up when nothing came for
    `stall_seconds`.
    """

    pixels: int = 48 << 20
    samples: int = 32
    structures: int = 512
    queue: int = 32
    body_bytes: int = 64 << 20
    memory_bytes: int = 1 << 31
    grace_seconds: float = 5.0
    kept_seconds: float = 900.0
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"the limit on {name} is {value}; expected a number above 0")
