"""Completions worked on in turns, so that many requests share the model fairly."""

from __future__ import annotations

import time

from manifill.completions import Completions, Draw, Work

SLICE = 0.5  # seconds of painting after which a turn ends


class Turns(Completions):
    """Completions that are worked on in turns, each of which draws one batch of structures at most, until `cancelled`.

    A turn also ends when it has painted for a while: large photos take their time.
    """

    def __init__(self, completions: Completions) -> None:
        self.inpainter, self.request, self.crops = completions.inpainter, completions.request, completions.crops
        self.rest, self.pending = completions.work(), None
        self.error: Exception | None = None
        self.begun = self.cancelled = self.finished = False

    @property
    def next_size(self) -> int:
        """How many structures the next turn draws, or 1 when it goes on painting."""
        if self.pending is not None:
            return len(self.pending.noise)
        return 1 if self.begun else min(len(self.seeds), self.inpainter.at_once)

    def work(self) -> Work:
        """Yield what happens in one turn; a failure ends this request alone."""
        reply, began = None, time.perf_counter()
        answered, self.begun = self.begun and self.pending is None, True  # who goes on painting draws in the next turn
        while not self.cancelled:
            if self.pending is None:
                try:
                    found = self.rest.send(reply)
                except StopIteration:
                    break
                except Exception as error:  # whatever it is, the others of this batch go on
                    self.error = error
                    break
                reply = None
                if isinstance(found, Draw):
                    self.pending = found
                    continue
                yield found
                if time.perf_counter() - began > SLICE:
                    return
            elif answered:
                return
            else:
                reply = yield self.pending
                self.pending, answered, began = None, True, time.perf_counter()
        self.finished = True
