"""A stand-in for the hub's HTTP interface: models, revisions, uploads and downloads, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_stub"
SPECIAL = ".gitattributes"  # the hub makes each repository with a commit of this file


@dataclass
class Repository:
    """Commits (their files by path) and the names of some of them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        """Let `main` be a new commit of these files."""
        self.messages.append(message)
        oid = hashlib.sha1(repr((message, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid], self.names["main"] = files, oid
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        """The files of `main`."""
        return self.commits[self.names["main"]]


class Hub:
    """The state behind the server, for tests to look at and to spoil.

    `cut` maps a file's name to the bytes of it that are sent before the line goes dead; `refuse` maps the start of a
    request ("POST /api/models/me/faces/commit") to the status that it is answered with, `meanwhile` to what somebody
    else does first.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut: dict[str, int] = {}
        self.refuse: dict[str, int] = {}
        self.meanwhile: dict[str, Callable[[], object]] = {}
        self.url = ""

    def create(self, name: str, files: dict[str, bytes] | None = None, **how: bool) -> Repository:
        """Make a repository with these files on `main`."""
        repository = self.repositories[name] = Repository(**how)
        repository.commit({SPECIAL: b"*.safetensors filter=lfs\n"}, "initial commit")
        if files is not None:
            repository.commit(repository.files | files, "files")
        return repository


class RefusedError(Exception):
    """An answer that is not the one asked for: a status, the hub's name for the error, and words."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """One request; the routes are tried in order."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_any(self) -> None:
        """RefusedError any method."""
        self.path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {self.path}"
        self.hub.requests.append(request)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        for start, act in self.hub.meanwhile.items():
            if request.startswith(start):
                act()
        try:
            for start, status in self.hub.refuse.items():
                if request.startswith(start):
                    raise RefusedError(status, message="spoilt by the test")
            for method, pattern, route in ROUTES:
                found = re.fullmatch(pattern, self.path)
                if found and self.command in method.split():
                    return route(self, *found.groups())
            raise RefusedError(404, message=f"the stub has no {request}")
        except RefusedError as refused:
            self.reply(refused.status, {"error": refused.message}, code=refused.code, message=refused.message)

    do_GET = do_HEAD = do_POST = do_PUT = do_any  # noqa: N815

    def reply(self, status: int, content: Any, code: str = "", message: str = "", **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        about = {"Content_Length": str(len(data)), "X_Error_Code": code, "X_Error_Message": message} | headers
        for key, value in about.items():
            if value:
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def repository(self, name: str, writing: bool = False) -> Repository:
        """Return a repository that this client may see, or write to."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.token != TOKEN):
            raise RefusedError(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if writing and (self.token != TOKEN or not name.startswith("me/")):
            raise RefusedError(403, message="You don't have the rights to write to this repository")
        return found

    def revision(self, repository: Repository, revision: str) -> str:
        """Return the commit that a branch, tag or commit names."""
        oid = repository.names.get(revision, revision)
        if oid not in repository.commits:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def create(self) -> None:
        """Make a repository of the token's owner."""
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if self.token != TOKEN:
            raise RefusedError(401, message="Invalid username or password.")
        if asked["organization"] != "me":
            raise RefusedError(403, message="You don't have the rights to create a model under this namespace")
        if name in self.hub.repositories:
            return self.reply(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        self.hub.create(name, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.reply(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def info(self, name: str, revision: str | None = None) -> None:
        """Describe a model."""
        repository = self.repository(name)
        oid = self.revision(repository, revision or "main")
        listed = [{"rfilename": path} for path in repository.commits[oid]]
        self.reply(
            200,
            {
                "id": name,
                "modelId": name,
                "sha": oid,
                "private": repository.private,
                "siblings": listed,
                "gated": "auto" if repository.gated else False,
            },
        )

    def tree(self, name: str, revision: str) -> None:
        """List the files of a commit."""
        repository = self.repository(name)
        files = repository.commits[self.revision(repository, revision)]
        self.reply(200, [entry(path, data) for path, data in files.items()])

    def validate(self) -> None:
        """Accept any card whose head names a licence."""
        good = re.match(r"---\n(.*\n)*?license: ", json.loads(self.body)["content"])
        self.reply(200 if good else 400, {"errors": [] if good else [{"message": "license"}], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        """Say how each file is to be sent."""
        repository = self.repository(name, writing=True)
        there = repository.commits[self.revision(repository, revision)]
        self.reply(
            200,
            {
                "files": [
                    {
                        "path": path,
                        "uploadMode": "lfs" if is_large(path) else "regular",
                        "shouldIgnore": False,
                        "oid": entry(path, there[path])["oid"] if path in there else None,
                    }
                    for path in (f["path"] for f in json.loads(self.body)["files"])
                ]
            },
        )

    def batch(self, name: str) -> None:
        """Say where large files are to be put."""
        self.repository(name, writing=True)
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.objects:
                item["actions"] = {
                    "upload": {"href": f"{self.hub.url}/store/{item['oid']}"},
                    "verify": {"href": f"{self.hub.url}/{name}/verify"},
                }
        self.reply(200, {"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        """Keep a large file."""
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, message="other content than announced")
        self.hub.objects[oid] = self.body
        self.reply(200, b"")

    def verify(self, name: str) -> None:
        """Confirm a large file."""
        asked = json.loads(self.body)
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise RefusedError(404, message="not there")
        self.reply(200, {})

    def commit(self, name: str, revision: str) -> None:
        """Take the lines of a commit, all or none."""
        repository = self.repository(name, writing=True)
        lines = [json.loads(line) for line in self.body.splitlines()]
        head, files = lines[0]["value"], dict(repository.commits[self.revision(repository, revision)])
        if head.get("parentCommit") not in (None, repository.names["main"]):
            raise RefusedError(412, message="A commit has happened since")
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = repository.commit(files, head["summary"])
        self.reply(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def resolve(self, name: str, revision: str, path: str) -> None:
        """Send a file or a part of it, or describe it."""
        repository = self.repository(name)
        if repository.gated and self.token != TOKEN:
            raise RefusedError(401, "GatedRepo", f"Access to model {name} is restricted")
        oid = self.revision(repository, revision)
        data = repository.commits[oid].get(path)
        if data is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        about = {
            "X_Repo_Commit": oid,
            "ETag": f'"{name_of(path, data)}"',
            "X_Linked_Size": str(len(data)),
            "Accept_Ranges": "bytes",
        }
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if path in self.hub.cut and self.command == "GET":
            return self.send_cut(data, path, about)
        if asked:
            first = int(asked[1])
            part = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            return self.reply(206, data[first:], **about, **part)
        return self.reply(200, data, **about)

    def send_cut(self, data: bytes, path: str, about: dict[str, str]) -> None:
        """Send the beginning of a file once, then nothing but errors."""
        size = self.hub.cut[path]
        if size == 0:
            raise RefusedError(500, message="spoilt by the test")
        self.hub.cut[path] = 0
        self.send_response(200)
        for key, value in ({"Content_Length": str(len(data))} | about).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data[:size])
        self.close_connection = True


MODEL = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", f"/api/models/{MODEL}", Handler.info),
    ("GET", f"/api/models/{MODEL}/revision/(.+)", Handler.info),
    ("GET", f"/api/models/{MODEL}/tree/(.+)", Handler.tree),
    ("POST", f"/api/models/{MODEL}/preupload/(.+)", Handler.preupload),
    ("POST", f"/api/models/{MODEL}/commit/(.+)", Handler.commit),
    ("POST", f"/{MODEL}.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/store/(\w+)", Handler.put),
    ("POST", f"/{MODEL}/verify", Handler.verify),
    ("GET HEAD", f"/{MODEL}/resolve/([^/]+)/(.+)", Handler.resolve),
]


def is_large(path: str) -> bool:
    """Say whether the hub keeps a file outside git."""
    return path.endswith(".safetensors")


def name_of(path: str, data: bytes) -> str:
    """Name a file's content as git, or its large file storage, does."""
    if is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    """Describe a file in a listing."""
    large = {"lfs": {"oid": name_of(path, data), "size": len(data), "pointerSize": 134}} if is_large(path) else {}
    return {"type": "file", "path": path, "size": len(data), "oid": name_of("", data)} | large


@contextmanager
def running() -> Iterator[Hub]:
    """Serve a hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library take this for the hub's address, as HF_ENDPOINT would had it not been imported yet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)


def only_here(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `socket.getaddrinfo` that knows this machine alone."""

    def getaddrinfo(host, *args, **kwargs):
        assert host in ("127.0.0.1", "localhost", None), f"asked for {host}"
        return original(host, *args, **kwargs)

    return getaddrinfo
