"""Whose work is done, together with whose, how long, and what is left of it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest
import serving
import torch
from serving import AT_ONCE, LIMITS, Web, connect, error, expected, pixels, png, raw, square_hole, until

from manifill import Inpainter
from manifill.sampling.naive import gumbel_noise
from manifill.web.jobs import PATCHED, size
from manifill.web.limits import Limits

pytest_plugins = ["web_fixtures"]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing frees what leads back to itself, so that memory is free at once, not now and then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_forgetting_leaves_nothing(web: Web) -> None:
    job = web.job(num_samples=2)
    web.events(job)
    assert web.client.get(f"{job}/completions/0.png").status_code == 200
    held = web.held(job)
    refs = [weakref.ref(held), weakref.ref(held.completions.photo.rgb), weakref.ref(held.results[0])]
    del held
    assert web.client.delete(job).status_code == 204
    until(lambda: all(ref() is None for ref in refs), 10)
    for path in ("events", "completions/0.png", "structures/0.png", "grid.png", "all.zip"):
        error(web.client.get(f"{job}/{path}"), 404, "no such job")
    error(web.client.delete(job), 404)


@pytest.mark.usefixtures("no_collector")
def test_uploads_do_not_outlive_the_request(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, load = [], web.state.complete

    def complete(*args: object) -> object:
        completions = load(*args)  # type: ignore[arg-type]
        refs.append(weakref.ref(completions.photo.rgb))
        return completions

    monkeypatch.setattr(web.state, "complete", complete)
    assert web.post().status_code == 200
    assert web.post(num_samples=2).status_code == 200
    until(lambda: all(ref() is None for ref in refs), 10)
    assert len(refs) == 2


def test_results_are_forgotten_after_their_time(small: Inpainter, face: np.ndarray) -> None:
    with serving.here(small, Limits(kept_seconds=0.4)) as web:
        web.photo, web.mask = png(face), png(square_hole())
        web.gate.open.clear()
        job = web.job()
        with web.client.stream("GET", f"{job}/events") as response:
            web.gate.open.set()
            assert "event: done" in "".join(response.iter_text())
        until(lambda: not web.state.jobs.known)
        error(web.client.get(f"{job}/grid.png"), 404)


def test_the_oldest_results_make_room(small: Inpainter, face: np.ndarray) -> None:
    with serving.here(small, Limits(memory_bytes=350_000)) as web:  # three jobs of one sample or so
        web.photo, web.mask = png(face), png(square_hole())
        jobs = []
        for _ in range(4):
            jobs.append(web.job())
            web.events(jobs[-1])
        alive = [web.client.get(f"{job}/grid.png").status_code for job in jobs]
        assert alive == sorted(alive, reverse=True)
        assert (alive[0], alive[-1]) == (404, 200)
        error(web.post(num_samples=32), 413, "MiB")
        web.gate.open.clear()
        held = [web.job() for _ in range(alive.count(200))]
        error(web.post(), 429, "memory")
        web.gate.open.set()
        assert web.events(held[-1])[-1][0] == "done"


def test_a_photo_costs_what_is_filled_not_the_square_that_is_seen(face: np.ndarray) -> None:
    """A square photo of a face is one square: one of 12 megapixels was refused, however small its hole was."""
    photo, hole = np.kron(face, np.ones((8, 8, 1), np.uint8)), np.zeros((1024, 1024), np.bool_)
    hole[480:560, 470:570] = True
    completions = Inpainter.from_pretrained("faces-128", "cpu")(photo, hole, num_samples=8, seed=0)
    assert [crop.side for crop in completions.crops] == [1024]
    assert size(completions) == photo.nbytes + hole.nbytes + 8 * PATCHED * 80 * 100


def test_a_full_queue_refuses_at_once(web: Web) -> None:
    web.gate.open.clear()
    jobs = [web.job(num_samples=AT_ONCE)]
    until(lambda: web.gate.batches)
    jobs += [web.job() for _ in range(LIMITS.queue)]
    refused = web.post()  # the model is held: whoever waits for it waits for ever
    error(refused, 429, "queue is full")
    assert refused.headers["retry-after"] == "1"
    assert [web.held(job).position for job in jobs] == [0, 1, 2, 3, 4]
    web.gate.open.set()
    assert all(web.events(job)[-1][0] == "done" for job in jobs)
    assert web.post().status_code == 200


def test_requests_that_fit_are_drawn_together(web: Web, small: Inpainter, face: np.ndarray) -> None:
    web.gate.open.clear()
    first = web.job(num_samples=AT_ONCE)
    until(lambda: web.gate.batches)
    jobs = [web.job(num_samples=2 - k, seed=10 * k, temperature=0.7 + k / 10) for k in (0, 1, 1)]
    web.lined_up(4)
    web.gate.open.set()
    for job in (first, *jobs):
        web.events(job)
    assert web.gate.batches == [4, 2, 2]
    for k, job in zip((0, 1, 1), jobs, strict=True):  # the model is nobody's now
        found = pixels(web.client.get(f"{job}/completions/0.png").content)
        alone = expected(small, face, square_hole() > 0, 10 * k, temperature=0.7 + k / 10)
        assert np.array_equal(found, alone)


def test_a_large_request_lets_a_small_one_pass(web: Web) -> None:
    web.gate.open.clear()
    large = web.job(num_samples=6)
    until(lambda: web.gate.batches)
    small = web.job(num_samples=3)
    web.lined_up(2)
    web.gate.open.set()
    web.events(small)
    web.events(large)
    assert web.gate.batches == [4, 3, 2]


def test_long_painting_lets_others_pass(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    web.gate.open.clear()
    large = web.job(num_samples=4, seed=0)
    until(lambda: web.gate.batches)
    small = web.job(seed=0)
    web.lined_up(2)
    web.gate.open.set()
    events = web.events(large)
    assert [kind for kind, _ in events][-9:] == ["structure"] * 4 + ["completion"] * 4 + ["done"]

    def ended() -> list[str]:
        return [line.split()[1][:6] for line in caplog.messages if ": done" in line]

    until(lambda: len(ended()) == 2)
    assert ended() == [job.rpartition("/")[2][:6] for job in (small, large)]
    pictures = [web.client.get(f"{job}/completions/0.png").content for job in (small, large)]
    assert np.array_equal(*map(pixels, pictures))


def test_a_job_whose_listener_leaves_is_cancelled(web: Web) -> None:
    web.gate.open.clear()
    job = web.job(num_samples=2)
    until(lambda: web.gate.batches)
    other = web.job(num_samples=2)
    held = [web.held(path) for path in (job, other)]
    for path in (job, other):
        with web.client.stream("GET", f"{path}/events") as response:
            next(response.iter_text())
    until(lambda: not web.state.jobs.known)
    assert all(left.timer is not None for left in held)  # a grace, for those who come back
    web.gate.open.set()
    web.lined_up(0)
    assert len(web.gate.batches) == 1  # the one that was being drawn; the other never was
    error(web.client.get(f"{job}/events"), 404, "cancelled")


def test_a_job_goes_on_for_those_who_stay(web: Web) -> None:
    web.gate.open.clear()
    job = web.job()
    heard: list[list[tuple[str, dict]]] = []
    staying = threading.Thread(target=lambda: heard.append(web.events(job)))
    staying.start()
    until(lambda: web.held(job).listeners == 1)
    for _ in range(3):
        with web.client.stream("GET", f"{job}/events") as response:
            next(response.iter_text())
        until(lambda: web.held(job).listeners == 1)
    assert web.held(job).timer is None
    web.gate.open.set()
    staying.join()
    assert heard[0][-1][0] == "done"


def test_a_job_goes_on_for_those_who_come_back(small: Inpainter, face: np.ndarray) -> None:
    with serving.here(small, replace(LIMITS, grace_seconds=1000)) as web:
        web.photo, web.mask = png(face), png(square_hole())
        web.gate.open.clear()
        job = web.job()
        with web.client.stream("GET", f"{job}/events") as response:
            next(response.iter_text())
        timer = until(lambda: web.held(job).timer)
        with web.client.stream("GET", f"{job}/events") as response:
            web.gate.open.set()
            assert "event: done" in "".join(response.iter_text())
        assert timer.cancelled()


def test_leaving_cancels_what_was_waited_for(web: Web) -> None:
    web.gate.open.clear()
    for _ in range(2):
        with connect(web.url) as client:
            client.sendall(raw(web.url, "/api/v1/inpaint", {"photo": web.photo, "mask": web.mask}))
            until(lambda: web.state.jobs.known)
        until(lambda: not web.state.jobs.known)
    assert not web.state.jobs.line


def test_cancelling_tells_all_listeners(web: Web) -> None:
    web.gate.open.clear()
    job = web.job()
    with web.client.stream("GET", f"{job}/events") as response:
        lines = response.iter_lines()
        next(lines)
        with httpx.Client(base_url=web.url) as another:
            assert another.delete(job).status_code == 204
        assert "event: cancelled" in list(lines)


def test_a_failure_stays_with_its_request(web: Web, small: Inpainter) -> None:
    middle = 4 * 8 + 4  # a position of the hole, where there is noise
    broken = gumbel_noise([77], 64, small.structure.config.codebook_size)[0, middle]
    web.gate.failing = lambda noise: any(torch.equal(row[middle], broken) for row in noise)
    web.gate.open.clear()
    first = web.job(num_samples=AT_ONCE)
    until(lambda: web.gate.batches)
    good, bad = web.job(num_samples=1, seed=0), web.job(num_samples=3, seed=77)
    web.lined_up(3)
    web.gate.open.set()
    assert web.events(bad)[-1][0] == "error"
    assert "failed" in web.events(bad)[-1][1]["error"]
    assert web.events(good)[-1][0] == "done"
    assert web.events(first)[-1][0] == "done"
    assert 4 in web.gate.batches[1:]  # they shared a batch, which failed
    error(web.post(num_samples=3, seed=77), 500, "model failed")
    assert web.post(num_samples=2).status_code == 200
