"""Answers to clients that may leave: server-sent events, and work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from manifill.web.jobs import Job, Jobs
from manifill.web.limits import RefusedError

R = TypeVar("R")


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(work: Coroutine[Any, Any, R], receive: Receive) -> R:
    """Return what `work` returns. Raises RefusedError, and cancels it, when the client leaves before."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RefusedError(499, "the client has left")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class Events(Response):
    """A job's events as text/event-stream, from number `first` on; its client is one of the job's listeners."""

    media_type = "text/event-stream"

    def __init__(self, jobs: Jobs, job: Job, first: int = 0) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.jobs, self.job, self.first = jobs, job, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what happens until the job ends or the client leaves."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with self.jobs.listening(self.job):
            try:
                await unless_gone(self.send_all(send), receive)
            except RefusedError:
                return

    async def send_all(self, send: Send) -> None:
        """Send all events, each as soon as the client has taken the one before."""
        async for text in self.texts():
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def texts(self) -> AsyncIterator[str]:
        """Yield events as they are written; comments keep a silent connection open."""
        yield "retry: 1000\n\n"
        async for number, kind, data in self.job.listen(self.first):
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" if kind else ": waiting\n\n"
