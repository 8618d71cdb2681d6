"""Eight jobs that sample at the same moment: one batch, and each has what it has alone."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from serving import until

from manifill import Completion, Inpainter
from manifill.web.batcher import Batcher

JOBS, SAMPLES = 8, 2


class Client:
    """A job that nobody cancels."""

    cancelled = False

    def __init__(self) -> None:
        self.begin: Callable[[], object] = lambda: None


def test_eight_jobs_at_once_keep_their_seeds(inpainter: Inpainter, face: np.ndarray) -> None:
    photo, hole = face[20:84, 20:84], np.zeros((64, 64), np.bool_)
    hole[16:48, 24:56] = True
    batcher, sizes, sample, shared = Batcher(), [], inpainter.sample, copy.copy(inpainter)

    def counted(cond, known, noise, *rest):
        sizes.append(len(noise))
        return sample(cond, known, noise, *rest)

    def work(seed: int) -> list[Completion]:
        found = []
        here.wait()
        with batcher.turn:
            completions = shared(photo, hole, num_samples=SAMPLES, seed=seed)
            for event in completions.events(partial(batcher.sample, Client())):
                found.append(event)
                batcher.turn.pass_on()
        return [event for event in found if isinstance(event, Completion)]

    seeds, here = range(0, 100 * JOBS, 100), threading.Barrier(JOBS + 1)
    shared.sample = counted  # type: ignore[method-assign]
    with ThreadPoolExecutor(JOBS) as pool:
        with batcher.turn:  # until all of them ask for it
            working = [pool.submit(work, seed) for seed in seeds]
            here.wait()
            until(lambda: batcher.turn.asked == 1 + JOBS)
        together = [job.result() for job in working]
    assert sum(sizes) == JOBS * SAMPLES
    assert max(sizes) > SAMPLES  # several jobs in one batch; all of them where memory allows
    for seed, found in zip(seeds, together, strict=True):
        alone = list(inpainter(photo, hole, num_samples=SAMPLES, seed=seed))
        assert [c.seed for c in found] == [c.seed for c in alone] == [seed, seed + 1]
        assert all(np.array_equal(a.codes, b.codes) for a, b in zip(found, alone, strict=True))
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(found, alone, strict=True))
    assert len({c.codes.tobytes() for found in together for c in found}) == JOBS * SAMPLES
