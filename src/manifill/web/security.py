"""Who may ask: the guard around the application, which also numbers and logs requests and sets every header."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manifill.web.limits import RefusedError
from manifill.web.log import log, request_id

COOKIE = "manifill-token"
DRAINED = 1 << 28  # bytes of a refused upload that are read, so that the refusal arrives, and for how many seconds
DRAIN_SECONDS = 5.0
BRAKE_SECONDS = 0.2  # between two answers to wrong tokens, whoever sends them
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=(), camera=()",
    "cache-control": "no-store",  # but for the page's own files
}


@dataclass(frozen=True)
class Access:
    """Who may ask: whoever knows `token`, or anybody where it is None, under the names in `hosts`.

    A page of another site cannot know the token, but it could ask for this server under a name of its own (DNS
    rebinding): so names are checked wherever the server is `local` or has no token. IP addresses are nobody's name.
    The page itself needs no token, it asks for one; all that it asks the server for does.
    """

    token: str | None = None
    hosts: tuple[str, ...] = ()
    local: bool = True

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise RefusedError for a foreign host (403), a request of another site (403) or a missing token (401)."""
        if self.local or self.token is None:
            self.check_host(headers.get("host", ""))
        if method not in ("GET", "HEAD", "OPTIONS"):
            check_origin(headers)
        public = path in ("/", "/health") or path.startswith("/static/")  # the page's own files, the sign of life
        if self.token is not None and not public and not self.known(given(headers)):
            wanted = "'Authorization: Bearer TOKEN' or by opening /?token=TOKEN"
            raise RefusedError(401, f"this server wants its token, as {wanted}")

    def check_host(self, host: str) -> None:
        """Raise RefusedError unless the Host header is a name of this server."""
        name = host_name(host)
        if name in ("localhost", *(known.lower() for known in self.hosts)):
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            address = None
        if address is None or (self.local and not address.is_loopback):
            raise RefusedError(403, f"this server is not called {host[:100]!r}; to allow a name, start it with --hosts")

    def known(self, token: str | None) -> bool:
        """Say whether this is the token, in a time that does not depend on it."""
        return secrets.compare_digest((token or "").encode(), (self.token or "").encode())


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port and in lower case; "" when it is malformed."""
    if "@" in host or "/" in host:  # an address has these before and after a host; the header does not
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def check_origin(headers: Headers) -> None:
    """Raise RefusedError for a request that another site's page sends; programs send neither of the two headers."""
    origin = headers.get("origin")
    elsewhere = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    if elsewhere or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise RefusedError(403, f"requests from other sites are refused (origin {(origin or 'unknown')[:100]!r})")


def given(headers: Headers) -> str | None:
    """Return the token that a request brings, in its Authorization header or in its cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else cookie_parser(headers.get("cookie", "")).get(COOKIE)


def refusal(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error as every error here looks."""
    more = {"retry-after": "1"} if status == 429 else {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"error": words, "request_id": request_id.get()}, status, {**more, **(headers or {})})


class Guard:
    """The application as the world sees it: every request checked, numbered and logged, every response with headers."""

    def __init__(self, app: ASGIApp, access: Access, root_path: str = "") -> None:
        self.app, self.access, self.root_path = app, access, root_path
        self.brake = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = self.moved(scope)
        named = request_id.set(secrets.token_hex(8))
        exchange = Exchange(receive, send)
        try:
            if self.guessed(scope):
                async with self.brake:  # one after another, so that many connections try no more tokens than one
                    await asyncio.sleep(BRAKE_SECONDS)
            app = self.answer(scope) or self.app
            await app(scope, exchange.receive, exchange.send)
        except Exception:
            log.exception("failed")
            if not exchange.status:
                await refusal(500, "the server failed; its log says why")(scope, exchange.receive, exchange.send)
        finally:
            path = json.dumps(scope["path"][:200])  # with quotes and without line breaks
            log.info("%s %s %d %.3f s", scope["method"], path, exchange.status, time.perf_counter() - exchange.began)
            request_id.reset(named)

    def moved(self, scope: Scope) -> Scope:
        """Return a request as the application wants it, below its root path, which the proxy may have passed on."""
        root, path = self.root_path, scope["path"]
        whole = path if path == root or path.startswith(f"{root}/") else root + path
        return {**scope, "root_path": root, "path": whole}

    def answer(self, scope: Scope) -> Response | None:
        """Return what is answered in the application's place: a refusal, or the cookie for a token; None mostly."""
        method, path, headers = scope["method"], scope["path"].removeprefix(self.root_path), Headers(scope=scope)
        if not path:
            return RedirectResponse(f"{self.root_path}/", 308)
        if method == "GET" and path == "/" and self.access.token is not None:
            token = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            if token and self.access.known(token[0]):  # for a cookie that other sites and scripts cannot read
                response, secure = RedirectResponse("./", 303), scope["scheme"] == "https"
                response.set_cookie(COOKIE, token[0], httponly=True, samesite="strict", secure=secure)
                return response
        if "content-length" in headers and "transfer-encoding" in headers:  # two lengths of one body: smuggling
            return refusal(400, "the request has both Content-Length and Transfer-Encoding; expected one of them")
        try:
            self.access.check(method, path, headers)
        except RefusedError as error:
            return refusal(error.status_code, error.detail)
        return None

    def guessed(self, scope: Scope) -> bool:
        """Say whether a request brings a wrong token."""
        tokens = [given(Headers(scope=scope)), *parse_qs(scope["query_string"].decode("latin-1")).get("token", [])]
        return self.access.token is not None and any(t and not self.access.known(t) for t in tokens)


class Exchange:
    """One request and its response on their way: what was read and sent is noted, headers are added."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.began, self.status, self.unread = time.perf_counter(), 0, True

    async def receive(self) -> Message:
        """Pass on what comes, noting the end of the body."""
        message = await self._receive()
        self.unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on what is sent, with the headers of every response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= 400 and self.status != 408:  # what stalled is not waited for again
                await self.drain()
            for name, value in {**HEADERS, "x-request-id": request_id.get()}.items():
                MutableHeaders(scope=message).setdefault(name, value)
        await self._send(message)

    async def drain(self) -> None:
        """Read the rest of a refused upload: a connection closed on unread bytes takes the refusal with it."""
        read = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.unread and read < DRAINED:
                    read += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
