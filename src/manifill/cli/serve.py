"""`manifill serve`: the page and the HTTP API."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes

from manifill.cli.extras import need
from manifill.cli.inpaint import MachineArguments, importing
from manifill.cli.options import FILE, plainly
from manifill.hub import find_model, from_hub

HOW: dict[str, Any] = {  # uvicorn, without its log lines, which know no request, and without what nobody uses
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "ws": "none",
    "http": "manifill.web.connections:Connection",
    "backlog": 32,  # as web.connections counts
    "timeout_graceful_shutdown": 3,
}


@plainly
def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    model: tuple[str, ...] = ("auto", "faces-128", "scenes-128"),
    machine: OmitArgPrefixes[MachineArguments] = MachineArguments(),  # noqa: B008
    token: str | None = None,
    token_file: Annotated[Path | None, FILE] = None,
    no_token: bool = False,
    hosts: tuple[str, ...] = (),
    open: bool = False,
    max_pixels: int = 48 << 20,
    max_samples: int = 32,
    max_body: int = 64,
    queue: int = 32,
    memory: int = 2048,
    root_path: str = "",
) -> int:
    """Open a page on which holes are painted and filled, and an HTTP API (described at /docs).

    Args:
        host: Where to listen. Other machines reach it only where this is not a loopback address; it then wants a token.
        port: The port; 0 takes a free one.
        model: Models that requests can name, the first of which fills where they name none: auto, which takes faces-128
            where a hole meets a face and scenes-128 elsewhere, bundled models' names, model folders, or
            USER/REPO[@REVISION] on the Hugging Face hub (extra `hub`).
        machine: Where it is computed, and in which precision.
        token: What clients must know, 16 characters or more. One is made and printed where one is needed. Others on
            this machine can read it in the list of processes: MANIFILL_TOKEN in the environment says the same.
        token_file: A file that holds it, in place of both.
        no_token: Want no token, wherever it listens.
        hosts: Names by which this server may be called besides localhost and its addresses.
        open: Open the page in a browser.
        max_pixels: The largest photo, in pixels.
        max_samples: The most completions that one request may have drawn.
        max_body: The largest request, in MiB.
        queue: How many requests may wait.
        memory: MiB of photos and results that are kept, decoded and worked on; the oldest results are forgotten
            first.
        root_path: Where a proxy shows this server, as "/fill"; it may pass paths on with or without it.

    """
    if root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", root_path):
        raise ValueError(f"the root path is {root_path!r}; expected one like /fill")
    need("serve", "fastapi", "python_multipart", "uvicorn")
    for name in model:
        if name != "auto" and not from_hub(name):
            find_model(name)
    token = chosen_token(host, token, no_token, token_file)
    with listen(host, port) as listening:
        with importing():
            import uvicorn

            from manifill.inpainter import load_models
            from manifill.memory import keep_freed_memory
            from manifill.web import log
            from manifill.web.app import create_app
            from manifill.web.limits import Limits
            from manifill.web.security import Access

        keep_freed_memory()
        limits = Limits(max_pixels, max_samples, queue=queue, body_bytes=max_body << 20, memory_bytes=memory << 20)
        inpainters = load_models(model, machine.device, machine.torch_dtype())
        app = create_app(inpainters, limits, Access(token, hosts, is_loopback(host)), root_path)
        log.start()
        url = address(listening, token)
        print(f"manifill: {url}", flush=True)
        if open:
            webbrowser.open(url)
        uvicorn.Server(uvicorn.Config(app, **HOW)).run([listening])
    return 0


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def chosen_token(host: str, token: str | None, no_token: bool, token_file: Path | None = None) -> str | None:
    """Return the token that clients must know: the given one, or a new one for whoever listens beyond this machine."""
    if token is not None and token_file is not None:
        raise ValueError("--token and --token-file exclude each other")
    if token_file is not None:
        token = token_file.read_text(errors="replace").strip()
    elif token is None and not no_token:
        token = os.environ.get("MANIFILL_TOKEN")
    if token is not None and no_token:
        raise ValueError("--token and --no-token exclude each other")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{16,}", token):
        raise ValueError("the token is too short or has odd characters; expected 16 or more of A-Z a-z 0-9 . _ ~ -")
    return secrets.token_urlsafe(24) if token is None and not no_token and not is_loopback(host) else token


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises OSError in words."""
    if not 0 <= port < 1 << 16:  # for which create_server leaves its socket open
        raise OSError(f"{host}, port {port}: cannot listen there (expected a port from 0 to 65535)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=HOW["backlog"])
    except OSError as error:
        raise OSError(f"{host}, port {port}: cannot listen there ({error.strerror or error})") from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else every answer waits for an acknowledgement
    return listening


def address(listening: socket.socket, token: str | None) -> str:
    """Return where to point a browser on this machine."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
