"""Jobs and the one worker that owns the model.

A job is drawn a batch of samples at a time. In each turn the worker takes from the front of the line as many jobs as
fit into one batch, draws them together, and puts those that need more at the back: so requests of different users share
batches, and a large one delays a small one by a batch at most. Everything here lives on the event loop but the drawing
itself, which runs in a thread of its own and only reports what happened: whoever listens slowly delays nobody.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from manifill.completions import Completion, Completions, Event, Preview, together
from manifill.web.limits import Limits, RefusedError
from manifill.web.log import about, log, request_id
from manifill.web.turns import Turns

PATCHED = 12  # bytes kept of a filled pixel: whether it is one, its colours, its samples, its part of a file
MARGIN = 4  # pixels shown around what is new
FAILED = "the model failed on this request; the server's log says why"


class Job:
    """One request: what has happened so far, for whoever listens, and its results."""

    def __init__(self, completions: Completions) -> None:
        self.id, self.request = secrets.token_urlsafe(16), request_id.get()
        self.turns: Turns | None = Turns(completions)
        self.completions = completions
        self.state: Literal["waiting", "drawing", "done", "error", "cancelled"] = "waiting"
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.previews: dict[int, Preview] = {}
        self.results: dict[int, Completion] = {}
        self.files: dict[str, asyncio.Task[bytes]] = {}
        self.began = time.perf_counter()
        self.position, self.listeners = -1, 0
        self.timer: asyncio.TimerHandle | None = None
        self.changed, self.ended = asyncio.Event(), asyncio.Event()
        self.failure: tuple[int, str] = (499, "the job was cancelled")
        self.cost = size(completions)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event and wake all listeners."""
        self.events.append((kind, data))
        self.changed.set()
        self.changed = asyncio.Event()

    def end(self, state: Literal["done", "error", "cancelled"], data: dict[str, Any]) -> None:
        """Tell the last event, unless it has been told."""
        if self.ended.is_set():
            return
        self.state = state
        if self.turns is not None:
            self.turns.cancelled = True
        self.tell(state, data)
        self.ended.set()
        with about(self.request):
            log.info("job %s: %s, %.3f s", self.id[:6], state, time.perf_counter() - self.began)

    def move(self, position: int) -> None:
        """Tell how many jobs come before this one, if that is news."""
        if position != self.position:
            self.position = position
            self.tell("queued", {"position": position})

    def add(self, event: Event) -> None:
        """Keep a preview or a completion and tell of it; the last one ends the job."""
        if self.ended.is_set():
            return
        data, root = {"index": event.index, "seed": event.seed}, f"/api/v1/jobs/{self.id}"
        if isinstance(event, Preview):
            self.previews[event.index] = event
            self.tell("structure", {**data, "image": f"{root}/structures/{event.index}.png"})
            return
        self.results[event.index] = event
        likelihood = round(event.log_likelihood, 5)
        place = f"{root}/completions/{event.index}"
        addresses = {"image": f"{place}.png", "patch": f"{place}/patch.png", "box": box(event)}
        self.tell("completion", {**data, "log_likelihood": likelihood, **addresses})
        if len(self.results) == len(self.completions):
            self.end("done", {"seconds": round(time.perf_counter() - self.began, 3)})

    async def listen(self, first: int = 0, silence: float = 15.0) -> AsyncIterator[tuple[int, str, dict[str, Any]]]:
        """Yield (number, kind, data) of all events from `first` to the last; kind is "" after `silence` seconds."""
        while True:
            changed = self.changed
            while first < len(self.events):
                yield first, *self.events[first]
                first += 1
            if self.ended.is_set():
                return
            try:
                async with asyncio.timeout(silence):
                    await changed.wait()
            except TimeoutError:
                yield first, "", {}


class Jobs:
    """All jobs that are known, and the line in which they wait for the model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.known: dict[str, Job] = {}
        self.line: deque[Job] = deque()
        self.drawing: list[Job] = []
        self.work = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "model")

    def check_line(self) -> None:
        """Raise RefusedError when the line is full."""
        if len(self.line) >= self.limits.queue:
            raise RefusedError(429, f"the queue is full: {len(self.line)} requests are waiting; try again in a moment")

    def submit(self, job: Job) -> None:
        """Put a job into the line. Raises RefusedError when it, or what it would keep in memory, does not fit."""
        samples, crops = len(job.completions.seeds), len(job.completions.crops)
        if samples * crops > self.limits.structures:
            needed = f"{samples} samples in {crops} crops are {samples * crops} structures to draw"
            raise RefusedError(422, f"{needed}; at most {self.limits.structures} here")
        self.check_line()
        self.make_room(job.cost)
        self.known[job.id] = job
        self.line.append(job)
        log.info("job %s: %d samples, %d in the queue", job.id[:6], samples, len(self.line))
        self.tell_positions()
        self.work.set()

    def make_room(self, cost: int) -> None:
        """Forget the oldest finished jobs nobody listens to until so many bytes are free. Raises RefusedError."""
        limit, used = self.limits.memory_bytes, sum(job.cost for job in self.known.values())
        if cost > limit:
            needed = f"this photo and its completions take {cost >> 20} MiB"
            raise RefusedError(
                413, f"{needed}; this server keeps at most {limit >> 20}: send a smaller photo or ask for fewer"
            )
        for job in [job for job in self.known.values() if job.ended.is_set() and not job.listeners]:
            if used + cost <= limit:
                return
            used -= job.cost
            self.forget(job.id)
        if used + cost > limit:
            raise RefusedError(429, "the server's memory is full of others' photos; try again in a moment")

    def find(self, id: str) -> Job:
        """Return a job. Raises RefusedError for one that is not known, or no longer."""
        if id not in self.known:
            raise RefusedError(404, "no such job: it was cancelled, or its results have been forgotten by now")
        return self.known[id]

    def forget(self, id: str) -> None:
        """Cancel a job, if it still runs, and drop everything that belongs to it."""
        job = self.known.pop(id, None)
        if job is None:
            return
        job.end("cancelled", {})
        if job in self.line:
            self.line.remove(job)
            self.tell_positions()
        if job.timer is not None:
            job.timer.cancel()

    @contextmanager
    def listening(self, job: Job) -> Iterator[None]:
        """Count a listener; when the last one leaves a running job and none comes back soon, it is cancelled."""
        job.listeners += 1
        if job.timer is not None:
            job.timer.cancel()
        try:
            yield
        finally:
            job.listeners -= 1
            if not job.listeners and not job.ended.is_set() and job.id in self.known:
                loop = asyncio.get_running_loop()
                job.timer = loop.call_later(self.limits.grace_seconds, self.abandon, job.id)

    def abandon(self, id: str) -> None:
        """Cancel a job that still runs and has no listener."""
        job = self.known.get(id)
        if job is not None and not job.listeners and not job.ended.is_set():
            self.forget(id)

    def tell_positions(self) -> None:
        """Tell those who have not begun how many come before them."""
        ahead = len(self.drawing)
        for place, job in enumerate(self.line):
            if job.state == "waiting":
                job.move(ahead + place)

    def take(self) -> list[Job]:
        """Take from the front of the line what fits into one batch; at least one job."""
        batch: list[Job] = []
        room = self.line[0].completions.inpainter.at_once
        while self.line and self.line[0].turns is not None:
            size = self.line[0].turns.next_size
            if batch and size > room:
                break
            room -= size
            batch.append(self.line.popleft())
        for job in batch:
            job.move(0)
            job.state = "drawing"
        return batch

    async def prepare(self, first: Completions) -> None:
        """Draw `first`, which readies the model and is not kept."""
        await asyncio.get_running_loop().run_in_executor(self.thread, list, first)

    async def run(self) -> None:
        """Draw whatever stands in line, for ever."""
        try:
            while True:
                await self.work.wait()
                self.work.clear()
                while self.line:
                    await self.turn()
        finally:
            for id in list(self.known):
                self.forget(id)

    async def turn(self) -> None:
        """Draw one batch and put back in line whose work is not finished."""
        loop = asyncio.get_running_loop()
        self.drawing = self.take()
        self.tell_positions()
        try:
            await loop.run_in_executor(self.thread, draw, self.drawing, loop)
        finally:
            batch, self.drawing = self.drawing, []
            for job in batch:
                self.settle(job)
            self.tell_positions()

    def settle(self, job: Job) -> None:
        """After its turn, put a job back in line or see that it has ended."""
        assert job.turns is not None
        error, finished = job.turns.error, job.turns.finished
        if not finished and not job.ended.is_set():
            self.line.append(job)
            return
        job.turns = None  # and with it all that the networks have read of the photo
        if not job.ended.is_set():
            job.failure = (400, str(error)) if isinstance(error, ValueError) else (500, FAILED)
            job.end("error", {"error": job.failure[1]})
            with about(job.request):
                log.error("job %s failed", job.id[:6], exc_info=error)
        if job.id in self.known:
            asyncio.get_running_loop().call_later(self.limits.kept_seconds, self.forget, job.id)


def draw(batch: list[Job], loop: asyncio.AbstractEventLoop) -> None:
    """Do one turn of several jobs and report every event to the loop; runs in the model's thread."""
    turns = [(job, job.turns) for job in batch if job.turns is not None]
    request_id.set(",".join(job.request for job in batch))
    try:
        for which, event in together([turn for _, turn in turns]):
            loop.call_soon_threadsafe(turns[which][0].add, event)
    except Exception as error:
        if len(turns) > 1:  # one of them is at fault, or they are too many
            log.exception("a batch of %d jobs failed; each is drawn alone", len(turns))
            for job, _ in turns:
                draw([job], loop)
        else:
            turns[0][1].error, turns[0][1].finished = error, True


def box(completion: Completion) -> list[int]:
    """Return a rectangle of the photo around all new pixels: left, top, right and bottom, these exclusive.

    The margin lets it be scaled and laid over the photo without a seam.
    """
    edges = []
    for p in completion.patches:
        rows, columns = np.flatnonzero(p.which.any(1)), np.flatnonzero(p.which.any(0))
        if rows.size:
            edges.append([p.columns.start + columns[0], p.rows.start + rows[0],
                          p.columns.start + columns[-1] + 1, p.rows.start + rows[-1] + 1])  # fmt: skip
    low, high = np.min(edges, axis=0), np.max(edges, axis=0)
    height, width = completion.request.hole.shape
    left, top = np.maximum(low[:2] - MARGIN, 0)
    right, bottom = np.minimum(high[2:] + MARGIN, (width, height))
    return [int(left), int(top), int(right), int(bottom)]


def size(completions: Completions) -> int:
    """Return how many bytes a photo and, at most, all of its completions take."""
    photo, hole = completions.photo, completions.hole
    patches = sum(crop.own.size for crop in completions.crops)
    seen = 0 if photo.rgb is photo.samples else photo.rgb.nbytes
    return photo.samples.nbytes + seen + hole.nbytes + len(completions) * PATCHED * patches
