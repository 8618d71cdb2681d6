"""Ask a manifill server for completions and save each one as it arrives; the standard library is enough.

    manifill serve
    python examples/client.py examples/astronaut.png examples/centre.png --count 4 --out out/client

The server describes its API at /docs.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Client:
    """A manifill server."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url, self.token = url.rstrip("/"), token

    def open(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """Send a request, with `body` as JSON, and return the response, a file; raises OSError in words."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{error.code}: {json.load(error)['error']}") from None

    def start(self, photo: Path, mask: Path, **settings: Any) -> dict[str, Any]:
        """Start a job and return its id, its seeds and where its events are."""
        pictures = {"photo": photo, "mask": mask}
        body = {name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()}
        with self.open("/api/v1/jobs", {**body, **settings}) as response:
            return json.load(response)

    def events(self, job: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what happens to a job, (kind, data), until its last event: done, error or cancelled."""
        kind = ""
        with self.open(job["events"]) as response:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)

    def picture(self, path: str) -> bytes:
        """Return a PNG of a job."""
        with self.open(path) as response:
            return response.read()

    def forget(self, job: dict[str, Any]) -> None:
        """Cancel a job and have the server forget it."""
        self.open(f"/api/v1/jobs/{job['id']}", method="DELETE").close()


def main() -> int:
    """Save the completions of one photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("mask", type=Path, help="white is the hole")
    parser.add_argument("--out", type=Path, default=Path("out/client"))
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--token")
    options = parser.parse_args()
    client = Client(options.url, options.token)
    try:
        return save_all(client, options)
    except OSError as error:
        print(f"client: {error}", file=sys.stderr)
        return 2


def save_all(client: Client, options: argparse.Namespace) -> int:
    """Start a job, save each completion when it is there, and have the job forgotten."""
    job = client.start(options.photo, options.mask, num_samples=options.count, seed=options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = ""
    try:
        for kind, data in client.events(job):
            if kind == "completion":
                path = options.out / f"{options.photo.stem}_{data['seed']}.png"
                path.write_bytes(client.picture(data["image"]))
                print(path)
            elif kind in ("error", "cancelled"):
                failed = data.get("error", "the job was cancelled")
    finally:
        client.forget(job)
    if failed:
        raise OSError(failed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
