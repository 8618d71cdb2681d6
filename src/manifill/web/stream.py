"""Answers to clients that may leave: server-sent events, and work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from manifill.web.jobs import Job, Jobs
from manifill.web.limits import RefusedError

R = TypeVar("R")


async def unless_gone(work: Coroutine[Any, Any, R], request: Request) -> R:
    """Return what `work` returns. Raises RefusedError, and cancels it, when the client leaves before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RefusedError(499, "the client has left")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def events(jobs: Jobs, job: Job, first: int) -> AsyncIterator[str]:
    """Yield a job's events as text/event-stream, from number `first` on; whoever iterates is one of its listeners.

    Comments keep a silent connection open.
    """
    with jobs.listening(job):
        yield "retry: 1000\n\n"
        async for number, kind, data in job.listen(first):
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" if kind else ": waiting\n\n"
