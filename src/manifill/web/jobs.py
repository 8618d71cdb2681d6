"""Jobs: what is known of every request, who listens to it, and the threads that work on it.

A job's thread iterates its completions, with the batcher as the sampler, and reports what happens to the event loop, on
which everything else here lives. Cancelling a job is leaving that loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Literal

import numpy as np
from PIL import Image

from manifill.completion import Completion, Event, Preview
from manifill.files.results import fillers
from manifill.inpainter import Completions
from manifill.photos.crops import Crop
from manifill.web.batcher import Batcher, CancelledError
from manifill.web.limits import FREE, VIEWED, Limits, RefusedError
from manifill.web.log import log

WORKING = 16  # jobs that are worked on at once, as many as fit into a batch; the others wait for a thread
SLICE = 0.1  # seconds for which a job goes on filling thin parts before it lets others take their turns
THIN = 8  # bytes kept of each pixel of a photo whose hole has thin parts, for all completions together
PATCHED = 12  # bytes kept of a filled pixel: whether it is one, its colours, its samples, its part of a file
MARGIN = 4  # pixels shown around what is new
FAILED = "the model failed on this request; the server's log says why"


class Job:
    """One request: what has happened so far, for whoever listens, and its results."""

    def __init__(self, completions: Completions) -> None:
        self.id, self.completions = secrets.token_urlsafe(16), completions
        self.cancelled = False
        self.begun: Callable[[Job], object] = lambda job: None  # told of by its thread; does not hold the job
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.previews: dict[int, Preview] = {}
        self.results: dict[int, Completion] = {}
        self.began = time.perf_counter()
        self.position, self.listeners = -1, 0
        self.timer: asyncio.TimerHandle | None = None
        self.changed, self.ended = asyncio.Event(), asyncio.Event()
        self.failure: tuple[int, str] = (499, "the job was cancelled")
        self.cost = size(completions)
        self.view = max(0, VIEWED * max((crop.side**2 for crop in completions.crops), default=0) - FREE)
        self.models: Any = fillers(completions)

    def begin(self) -> None:
        """Have it known, from its thread, that its codes are about to be sampled.

        Nothing in a job leads back to it: Python frees what does so now and then, and the photo and results of a
        forgotten one are to go at once.
        """
        self.begun(self)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event and wake all listeners."""
        self.events.append((kind, data))
        self.changed.set()
        self.changed = asyncio.Event()

    def end(self, kind: Literal["done", "error", "cancelled"], data: dict[str, Any]) -> None:
        """Tell the last event, unless it has been told."""
        if self.ended.is_set():
            return
        if self.timer is not None:
            self.timer.cancel()
        self.cancelled = True
        self.tell(kind, data)
        self.ended.set()
        log.info("job %s: %s, %.3f s", self.id[:6], kind, time.perf_counter() - self.began)

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
            image = f"{root}/structures/{event.index}.png"
            self.tell("structure", {**data, "image": image, **shown_square(event.crop, self.completions.hole)})
            return
        self.results[event.index] = event
        likelihood = round(event.log_likelihood, 5)
        place = f"{root}/completions/{event.index}"
        more = {"image": f"{place}.png", "patch": f"{place}/patch.png", "box": changed_box(event)}
        self.tell("completion", {**data, "log_likelihood": likelihood, **more, "models": self.models})
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
    """All jobs that are known; `line` are those that have not begun, in the order in which they came."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.batcher = limits, Batcher()
        self.known: dict[str, Job] = {}
        self.line: list[Job] = []
        self.drawing: set[Job] = set()
        self.reading = 0  # bytes of uploads that are decoded, or wait for it
        self.threads = ThreadPoolExecutor(WORKING, "job")

    def check_line(self) -> None:
        """Raise RefusedError when the line is full."""
        if len(self.line) >= self.limits.queue:
            raise RefusedError(429, f"the queue is full: {len(self.line)} requests are waiting; try again in a moment")

    def submit(self, job: Job) -> None:
        """Put a job into the line, and have it worked on as soon as a thread is free.

        Raises RefusedError when it, or what it would keep in memory, does not fit.
        """
        samples, crops = len(job.completions.seeds), len(job.completions.crops)
        if samples * crops > self.limits.structures:
            needed = f"{samples} samples in {crops} crops are {samples * crops} structures to draw"
            raise RefusedError(422, f"{needed}; at most {self.limits.structures} here")
        self.check_line()
        self.make_room(job.cost, job.view)
        self.known[job.id] = job
        self.line.append(job)
        log.info("job %s: %d samples, %d in the queue", job.id[:6], samples, len(self.line))
        self.tell_positions()
        loop = asyncio.get_running_loop()
        job.begun = partial(loop.call_soon_threadsafe, self.begun)
        doing = partial(work, job, self.batcher, partial(loop.call_soon_threadsafe, job.add))
        working = loop.run_in_executor(self.threads, copy_context().run, doing)  # its log lines have the request's id
        working.add_done_callback(partial(self.settle, job))

    def make_room(self, cost: int, view: int = 0) -> None:
        """Forget the oldest finished jobs nobody listens to until so many bytes are free. Raises RefusedError.

        `view` is what a job takes besides while it is worked on, as one is at a time.
        """
        limit, jobs = self.limits.memory_bytes, self.known.values()
        if cost + view > limit:
            needed = f"this photo and its completions take {cost + view >> 20} MiB"
            raise RefusedError(
                413, f"{needed}; this server has {limit >> 20} for them: send a smaller photo or ask for fewer"
            )
        used = self.reading + sum(job.cost for job in jobs)
        used += max([view, *(job.view for job in jobs if not job.ended.is_set())])
        for job in [job for job in self.known.values() if job.ended.is_set() and not job.listeners]:
            if used + cost <= limit:
                return
            used -= job.cost
            self.forget(job.id)
        if used + cost > limit:
            raise RefusedError(429, "the server's memory is full of others' photos; try again in a moment")

    @contextmanager
    def room(self, cost: int) -> Iterator[None]:
        """Take so many bytes for uploads. Raises RefusedError where they are not free."""
        self.make_room(cost)
        self.reading += cost
        try:
            yield
        finally:
            self.reading -= cost

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
                job.timer = loop.call_later(self.limits.grace_seconds, self.forget, job.id)

    def tell_positions(self) -> None:
        """Tell those who have not begun how many come before them."""
        for place, job in enumerate(self.line):
            job.move(len(self.drawing) + place)

    def begun(self, job: Job) -> None:
        """Take a job out of the line: its codes are being sampled."""
        if job in self.line:
            self.line.remove(job)
            self.drawing.add(job)
            job.move(0)
            self.tell_positions()

    async def prepare(self, examples: Iterator[Completions]) -> None:
        """Complete all examples, which readies the models."""
        await asyncio.get_running_loop().run_in_executor(self.threads, lambda: [list(example) for example in examples])

    def close(self) -> None:
        """Cancel all jobs."""
        for id in list(self.known):
            self.forget(id)

    def settle(self, job: Job, working: asyncio.Future[None]) -> None:
        """After its thread has ended, see that a job has, too."""
        self.drawing.discard(job)
        if job in self.line:
            self.line.remove(job)
        self.tell_positions()
        error = working.exception()
        if not job.ended.is_set():
            job.failure = (400, str(error)) if isinstance(error, ValueError) else (500, FAILED)
            job.end("error", {"error": job.failure[1]})
            log.error("job %s failed", job.id[:6], exc_info=error)
        if job.id in self.known:
            asyncio.get_running_loop().call_later(self.limits.kept_seconds, self.forget, job.id)


def work(job: Job, batcher: Batcher, report: Callable[[Event], object]) -> None:
    """Complete a job's photo in its own thread, letting others take their turns after everything that is ready."""
    with batcher.turn:
        began = time.monotonic()
        try:
            for event in job.completions.steps(partial(batcher.sample, job)):
                if job.cancelled:
                    return
                if event is not None:
                    report(event)
                elif time.monotonic() < began + SLICE:
                    continue
                else:
                    job.begin()
                batcher.turn.pass_on()
                began = time.monotonic()
        except CancelledError:
            return


def changed_box(completion: Completion) -> list[int]:
    """Return a rectangle of the photo around all new pixels: left, top, right and bottom, these exclusive.

    The margin lets it be scaled and laid over the photo without a seam.
    """
    places = [(Image.fromarray(p.which).getbbox(), (p.columns.start, p.rows.start)) for p in completion.patches]
    edges = np.array([np.add(edge, (left, top, left, top)) for edge, (left, top) in places if edge])
    height, width = completion.request.hole.shape
    left, top = np.maximum(edges[:, :2].min(0) - MARGIN, 0)
    right, bottom = np.minimum(edges[:, 2:].max(0) + MARGIN, (width, height))
    return [int(left), int(top), int(right), int(bottom)]


def shown_square(crop: Crop | None, hole: np.ndarray) -> dict[str, Any]:
    """Return where a structure lies in the photo: the `box` of a square, turned clockwise by `angle` degrees."""
    if crop is None:
        height, width = hole.shape
        return {"box": [0, 0, width, height], "angle": 0.0}
    box = [crop.left, crop.top, crop.left + crop.side, crop.top + crop.side]
    return {"box": box, "angle": round(crop.angle, 2)}


def size(completions: Completions) -> int:
    """Return how many bytes a photo and, at most, all of its completions take."""
    photo, hole = completions.photo, completions.hole
    thin = 0 if completions.request.thin is None else THIN * hole.size
    boxes = [crop.box() for crop in completions.crops if crop.own.any()]
    patches = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in boxes)
    seen = 0 if photo.rgb is photo.samples else photo.rgb.nbytes
    return photo.samples.nbytes + seen + hole.nbytes + thin + len(completions) * PATCHED * patches
