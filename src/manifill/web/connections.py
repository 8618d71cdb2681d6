"""Connections that cost: uvicorn's HTTP/1.1 with a deadline for headers and a limit of connections, which it lacks."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from manifill.web.log import CROWDED, log

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

    deadline: asyncio.TimerHandle | None = None  # while it waits for headers

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
        self.deadline = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def stop_waiting(self) -> None:
        """Remove the deadline."""
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def make_room(self) -> None:
        """Close all that have waited for a second, or the one that has waited longest: honest clients do not wait."""
        others = cast(set[Connection], self.connections) - {self}
        waiting = {c: c.deadline.when() for c in others if c.deadline is not None}
        newest = self.loop.time() + HEADERS_SECONDS
        old = [c for c, deadline in waiting.items() if newest - deadline > 1]
        closed = old or sorted(waiting, key=lambda c: waiting[c])[:1] or [self]
        for connection in closed:
            connection.stop_waiting()  # the next to come is to close another
            connection.transport.close()
        log.warning(CROWDED, len(self.connections), len(closed))
