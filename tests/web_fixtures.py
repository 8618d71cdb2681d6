"""Fixtures of the tests of `manifill.web`: a small model, and a server with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import AT_ONCE, LIMITS, Web, here, png, square_hole, until

from manifill import Inpainter


class Small(Inpainter):
    """A model that draws in small batches."""

    at_once = AT_ONCE


@pytest.fixture(scope="session")
def small(reference_model: Path) -> Inpainter:
    """A small model, in small batches: what the server does, it does with any."""
    return Small.from_pretrained(reference_model, "cpu")


@pytest.fixture(scope="session")
def server(small: Inpainter, face: np.ndarray) -> Iterator[Web]:
    with here(small, LIMITS) as web:
        web.photo, web.mask = png(face), png(square_hole())
        yield web


@pytest.fixture
def web(server: Web) -> Iterator[Web]:
    """The server at rest, with nothing to do before and after."""
    jobs = server.state.jobs
    server.gate.failing = lambda noise: False
    server.gate.batches.clear()  # of other servers with the same model
    yield server
    server.gate.open.set()
    for id in list(jobs.known):
        server.client.delete(f"/api/v1/jobs/{id}")
    until(lambda: not (jobs.line or jobs.drawing or jobs.known))
    server.gate.batches.clear()
