"""Who may ask, what every response carries, and what the log says."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import serving
from serving import NOBODY, Web, error, png, square_hole, until

from manifill import Inpainter
from manifill.cli.serve import address, chosen_token, is_loopback, listen, serve
from manifill.web.log import Lines, request_id
from manifill.web.security import Access

pytest_plugins = ["web_fixtures"]
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def guarded(small: Inpainter, face: np.ndarray) -> Iterator[Web]:
    """A server that wants a token and does not listen on a loopback address, or so it thinks."""
    with serving.here(small, serving.LIMITS, Access(TOKEN, (), local=False)) as web:
        web.photo, web.mask = png(face), png(square_hole())
        yield web


def everything(web: Web) -> Iterator[httpx.Response]:
    """Ask for one answer of every kind."""
    job = web.job()
    web.events(job)
    tag = web.client.get("/static/samples/centre.png").headers["etag"]
    site = ("/", "/health", "/docs", "/docs/style.css", "/openapi.json", "/static/samples/centre.png", "/nowhere")
    for path in (*site, "/api/v1/model", f"{job}/completions/0.png", f"{job}/grid.png", f"{job}/all.zip", NOBODY):
        yield web.client.get(path)
    yield web.client.get("/static/samples/centre.png", headers={"if-none-match": tag})
    with web.client.stream("GET", f"{job}/events") as response:
        yield response
    yield web.client.get("/", headers={"host": "evil.example"})
    yield web.post(num_samples=0)
    web.gate.failing = lambda draws: True
    yield web.post()


def test_every_response_carries_the_headers(web: Web) -> None:
    statuses, numbers = set(), set()
    for response in everything(web):
        headers = response.headers
        statuses.add(response.status_code)
        numbers.add(headers["x-request-id"])
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
        assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
        assert policy["img-src"] == "'self' blob: data:"
        assert response.status_code == 304 or headers["content-type"]
        assert not [name for name in headers if name.startswith("access-control") or name == "server"]
        static = "/static/" in str(response.url) or response.url.path == "/"
        assert headers["cache-control"] == ("no-cache" if static and response.status_code < 400 else "no-store")
    assert {200, 304, 403, 404, 405, 422, 500} <= statuses
    assert len(numbers) > 15


def test_the_documentation_asks_no_other_host(web: Web) -> None:
    text = web.client.get("/docs").text
    assert "<script" not in text
    assert re.findall(r"""(?:src|href)=["']?([^"'> ]+)""", text) == [
        "static/icon.svg",
        "docs/style.css",
        "./",
        "openapi.json",
    ]
    description = web.client.get("/openapi.json").json()
    for path, operations in description["paths"].items():
        assert path in text
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert all(f"<code>{name}</code>" in text for name in content["schema"]["properties"])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "10.0.0.1", "127.0.0.1.evil.example", "[::1", "", "a b"]
)
def test_foreign_names_are_refused(web: Web, host: str) -> None:
    for path in ("/", "/health", "/api/v1/model", "/static/samples/centre.png"):
        error(web.client.get(path, headers={"host": host}), 403, "not called")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.8.0.1:80", "[::1]:8000", "localhost."])
def test_own_names_are_taken(web: Web, host: str) -> None:
    assert web.client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_may_not_post(web: Web, headers: dict[str, str]) -> None:
    for path in ("/api/v1/inpaint", "/api/v1/jobs", f"{NOBODY}/redraw", f"{NOBODY}/near"):
        files = {"photo": web.photo, "mask": web.mask}
        error(web.client.post(path, files=files, headers=headers), 403, "other sites")
    error(web.client.delete(NOBODY, headers=headers), 403, "other sites")
    assert not web.state.jobs.known


def test_the_page_itself_may_post(web: Web) -> None:
    headers = {"origin": web.url, "sec-fetch-site": "same-origin"}
    answer = web.client.post("/api/v1/inpaint", files={"photo": web.photo, "mask": web.mask}, headers=headers)
    assert answer.status_code == 200
    asked = web.client.options(
        "/api/v1/inpaint", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}
    )
    assert asked.status_code == 405


def test_without_the_token_nothing_but_the_page(guarded: Web) -> None:
    client = guarded.client
    for path in ("/", "/health", "/static/samples/centre.png"):
        assert client.get(path).status_code != 401
    for path in (
        "/api/v1/model",
        "/api/v1/samples",
        "/docs",
        "/openapi.json",
        f"{NOBODY}/events",
        "/nowhere",
        "/api",
    ):
        answer = client.get(path)
        error(answer, 401, "token")
        assert answer.headers["www-authenticate"] == "Bearer"
    error(guarded.post(), 401, "token")
    error(client.delete(NOBODY), 401, "token")
    for wrong in ("Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer \xe9", TOKEN):
        error(client.get("/api/v1/model", headers={"authorization": wrong.encode("latin-1")}), 401)
    error(client.get("/api/v1/model", params={"token": TOKEN}), 401)
    error(client.get("/api/v1/model", headers={"cookie": 'manifill-token="; a=\x01'}), 401)
    assert not guarded.state.jobs.known


def test_the_token_opens_the_api_and_becomes_a_cookie(guarded: Web) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}", "host": "whatever.example"}  # who knows the token may use any name
    assert httpx.get(f"{guarded.url}/api/v1/model", headers=bearer).status_code == 200
    error(httpx.post(f"{guarded.url}/api/v1/jobs", headers={**bearer, "origin": "http://evil.example"}), 403)
    with httpx.Client(base_url=guarded.url) as browser:
        assert browser.get("/", params={"token": "wrong-wrong-wrong"}).status_code != 303
        error(browser.get("/api/v1/model"), 401)
        answer = browser.get("/", params={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/api/v1/model").status_code == 200
        pictures = {"photo": guarded.photo, "mask": guarded.mask}
        assert browser.post("/api/v1/inpaint", files=pictures).status_code == 200


def test_names_are_checked_where_there_is_no_token() -> None:
    open_to_all = Access(None, ("box.example",), local=False)
    for host in ("box.example", "BOX.example:80", "10.0.0.7:8000", "[fe80::1]", "localhost"):
        open_to_all.check_host(host)
    for host in ("evil.example", "box.example.evil.example", ""):
        with pytest.raises(Exception, match="not called"):
            open_to_all.check_host(host)


def test_a_token_where_others_can_listen() -> None:
    assert chosen_token("127.0.0.1", None, False) is None
    assert chosen_token("localhost", None, False) is None
    assert chosen_token("::1", None, False) is None
    made = {chosen_token(host, None, False) for host in ("0.0.0.0", "::", "10.0.0.1", "box.example")}
    assert len(made) == 4
    assert all(len(token or "") >= 32 for token in made)
    assert chosen_token("0.0.0.0", None, True) is None
    assert chosen_token("127.0.0.1", TOKEN, False) == TOKEN
    for token in ("short", "with spaces in the middle", "quotes-and-;-semicolons"):
        with pytest.raises(ValueError, match="16 or more"):
            chosen_token("127.0.0.1", token, False)
    with pytest.raises(ValueError, match="exclude"):
        chosen_token("127.0.0.1", TOKEN, True)
    assert not is_loopback("127.0.0.1.evil.example")


def test_addresses_and_ports_in_words() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address(taken, None) == f"http://127.0.0.1:{port}/"
        assert address(taken, TOKEN) == f"http://127.0.0.1:{port}/?token={TOKEN}"
        with pytest.raises(OSError, match=f"port {port}: cannot listen there"):
            listen("127.0.0.1", port)
    for host, port in (("127.0.0.1", 99999), ("no.such.host.invalid", 80), ("203.0.113.1", 80)):
        with pytest.raises(OSError, match="cannot listen there"):
            listen(host, port)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ValueError, match=r"uvicorn.*pip install 'manifill\[serve\]'"):
        serve(port=0)


def test_log_lines_say_which_request_and_never_the_token(guarded: Web, caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines("%(message)s")
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.extend(lines.format(record).splitlines())

    handler = Said()
    logging.getLogger("manifill.web").addHandler(handler)
    try:
        caplog.set_level(logging.INFO)
        headers = {"authorization": f"Bearer {TOKEN}"}
        pictures = {"photo": guarded.photo, "mask": guarded.mask}
        answer = guarded.client.post("/api/v1/inpaint", files=pictures, headers=headers)
        odd = guarded.client.get("/%0aINFO%20forged")
        guarded.client.get("/", params={"token": TOKEN})
        guarded.gate.failing = lambda draws: True
        failed = guarded.client.post("/api/v1/inpaint", files=pictures, headers=headers)
        until(lambda: any(" 500 " in line for line in said))  # it is logged when it has been answered
    finally:
        guarded.gate.failing = lambda draws: False
        logging.getLogger("manifill.web").removeHandler(handler)
    assert not [line for line in said if TOKEN in line]
    for response in (answer, odd, failed):
        mine = [line for line in said if f"[{response.headers['x-request-id']}]" in line]
        assert f" {response.status_code} " in mine[-1]
    assert not [line for line in said if line.startswith("INFO forged")]
    traceback = [line for line in said if "the model is broken" in line]
    assert all(failed.headers["x-request-id"] in line for line in traceback)
    assert traceback
    assert request_id.get() == "-"
