"""Connections that cost: uvicorn's HTTP/1.1 with a deadline for headers and a limit of connections, which it lacks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from manifill.web.log import QUIET_SECONDS, log

HEADERS_SECONDS = 10.0  # within which the headers of a request are to arrive, the first on a connection or another
BACKLOG = 32  # connections that wait to be accepted, as uvicorn is told
RESERVED = 64  # files that a server opens for other things than connections
MOST = 4096


def most_connections() -> int:
    """Return how many connections there may be at once: fewer than this process may have files.

    asyncio accepts a whole backlog at each turn of its loop, says so to the protocol one turn later, and closes one
    turn after it is told to: three backlogs may be open that nobody has counted.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 512
    return max(16, min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED - 3 * BACKLOG))


class Connection(H11Protocol):
    """A connection that is closed when it sends no whole headers in time, or sooner when others need its place."""

    waiting_since: float | None = None
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and wait for headers."""
        super().connection_made(transport)
        self.wait()
        if len(self.connections) > most_connections():
            self.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self.stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Wait no more when the headers are whole."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self.stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the headers of the next request, or for the rest of a body that nobody reads."""
        self.wait()
        super().on_response_complete()

    def wait(self) -> None:
        """Set the deadline."""
        self.stop_waiting()
        self.waiting_since = time.monotonic()
        self.deadline = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def stop_waiting(self) -> None:
        """Remove the deadline."""
        self.waiting_since = None
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def make_room(self) -> None:
        """Close all that have waited for a second, or the one that has waited longest: honest clients do not wait."""
        waiting = {c: since for c in self.connections if c is not self and (since := _since(c)) is not None}
        old = [c for c, since in waiting.items() if time.monotonic() - since > 1]
        closed: list[Any] = old or sorted(waiting, key=lambda c: waiting[c])[:1] or [self]
        for connection in closed:
            connection.stop_waiting()  # the next to come is to close another
            connection.transport.close()
        words = "%d connections at once are all that this process may have files for; closed %d that sent nothing"
        said: float = self.app_state.get("crowded", -QUIET_SECONDS)
        if time.monotonic() - said >= QUIET_SECONDS:
            self.app_state["crowded"] = time.monotonic()
            log.warning(words, len(self.connections), len(closed))


def _since(connection: Any) -> float | None:
    return connection.waiting_since if isinstance(connection, Connection) else None
