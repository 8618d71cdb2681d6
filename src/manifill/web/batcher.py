"""Dynamic batching: what several jobs want sampled at the same moment becomes one batch.

Every job iterates `pipeline.complete` in a thread of its own and hands it `Batcher.sample`. The model is one, so the
threads take turns: whoever has the turn computes, everybody else waits in line. A job that wants codes puts its rows
down, goes to the end of the line, and when its turn comes again either finds its codes there or samples for all who
wait with the same options. So batches grow by themselves while the model is busy, and a large job delays a small one
by a batch, or one painted picture, at most.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from manifill.config import SamplingOptions
from manifill.model import Model
from manifill.sampling.naive import Sampled
from manifill.web.log import log


class Client(Protocol):
    """Whose rows they are."""

    cancelled: bool

    def begin(self) -> object:
        """Hear that rows are about to be sampled."""


class CancelledError(Exception):
    """Raised in a job's thread where its codes are no longer wanted."""


class Turn:
    """A lock that is handed on in the order in which it was asked for."""

    def __init__(self) -> None:
        self.asked, self.serving = 0, 0  # how often it was asked for, and handed on
        self.changed = threading.Condition()

    def __enter__(self) -> None:
        with self.changed:
            ticket, self.asked = self.asked, self.asked + 1
            self.changed.wait_for(lambda: self.serving == ticket)

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.serving += 1
            self.changed.notify_all()

    def pass_on(self) -> None:
        """Let everybody go first who waits."""
        self.__exit__()
        self.__enter__()


@dataclass(eq=False)
class Rows:
    """Samples that a job waits for, as `Model.sample` takes them; `alone` after a batch that they were in failed."""

    client: Client
    model: Model
    cond: Tensor
    known: Tensor
    noise: Tensor
    options: SamplingOptions
    alone: bool = False
    sampled: Sampled | None = None


class Batcher:
    """The turn at the model, and the rows that wait for it; `waiting` is touched by whoever has the turn alone."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.waiting: list[Rows] = []

    def sample(
        self, client: Client, model: Model, cond: Tensor, known: Tensor, noise: Tensor, options: SamplingOptions
    ) -> Sampled:
        """Sample as `Model.sample` does, in one batch with others' rows where they fit; called with the turn.

        Raises CancelledError for a client that is cancelled.
        """
        own = Rows(client, model, cond, known, noise, options)
        self.waiting.append(own)
        self.turn.pass_on()
        if own in self.waiting:
            self.draw(own)
        if own.sampled is None:
            raise CancelledError
        return own.sampled

    def draw(self, own: Rows) -> None:
        """Sample these rows and all that wait for the same and fit into one batch; drop those of cancelled clients."""
        self.waiting = [rows for rows in self.waiting if not rows.client.cancelled]
        if own not in self.waiting:
            return
        batch, room = [own], own.model.at_once - len(own.noise)
        for rows in [] if own.alone else self.waiting:
            alike = rows.model is own.model and rows.options == own.options
            if alike and rows is not own and not rows.alone and len(rows.noise) <= room:
                batch.append(rows)
                room -= len(rows.noise)
        for rows in batch:
            self.waiting.remove(rows)
            rows.client.begin()
        try:
            hand_out(batch, own.model.sample(*batched(batch), own.options))
        except Exception:
            if len(batch) == 1:
                raise
            log.exception("a batch of %d jobs failed; each is sampled alone", len(batch))
            for rows in batch:
                rows.alone = True
            self.waiting += batch[1:]
            hand_out([own], own.model.sample(own.cond, own.known, own.noise, own.options))


def batched(batch: Sequence[Rows]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the conditions, known codes and noise of all rows; one picture's stay one where it is alone."""
    if len(batch) == 1:
        return batch[0].cond, batch[0].known, batch[0].noise
    cond = torch.cat([rows.cond.expand(len(rows.noise), -1, -1, -1) for rows in batch])
    known = torch.cat([rows.known.expand(len(rows.noise), -1, -1) for rows in batch])
    return cond, known, torch.cat([rows.noise for rows in batch])


def hand_out(batch: Sequence[Rows], sampled: Sampled) -> None:
    """Give everybody what is theirs."""
    sizes = [len(rows.noise) for rows in batch]
    parts = zip(sampled.codes.split(sizes), sampled.log_likelihood.split(sizes), strict=True)
    for rows, part in zip(batch, parts, strict=True):
        rows.sampled = Sampled(*part)
