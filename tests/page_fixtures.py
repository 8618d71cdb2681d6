"""A browser for the page's tests, and the server whose page it opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import browsing
import pytest
from browsing import SMALL, serve

PATIENCE = 90_000  # milliseconds, for what takes a fraction of a second on a machine at rest


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A server with a small model."""
    yield from serve(*SMALL)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Headless Chromium; for a module only, as playwright's event loop would be in the way of other tests."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'manifill[dev]'")
    api.expect.set_options(timeout=PATIENCE)
    with api.sync_playwright() as playwright:
        browser = browsing.chromium(playwright)
        if browser is None:
            pytest.skip("needs a browser: apt-get install chromium")
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; in the end, no script has failed and nothing was asked of another host."""
    contexts, failures, addresses = [], [], []

    def open_page(url: str = address, **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda m: failures.append(m.text) if "Content Security Policy" in m.text else None)
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []
    hosts = {urlsplit(a).netloc for a in addresses if not a.startswith(("blob:", "data:", "about:"))}
    assert len(hosts) == 1
    assert hosts.pop().startswith("127.0.0.1:")
