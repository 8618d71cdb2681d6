"""Weights of public feature networks, fetched once from their homes and checked."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.error
from pathlib import Path
from typing import NamedTuple

import torch.hub


class PublicFile(NamedTuple):
    """A file at its public home and its SHA-256."""

    url: str
    sha256: str


_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963"
PUBLIC_FILES = {
    "inception": PublicFile(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "alexnet": PublicFile(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg16": PublicFile(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "lpips-alex": PublicFile(
        f"{_LPIPS}/lpips/weights/v0.1/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    ),
    "lpips-vgg": PublicFile(
        f"{_LPIPS}/lpips/weights/v0.1/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
    ),
}


def fetch(name: str, cache: Path) -> Path:
    """Return the path of a known public file in `cache`, downloading it when it is not there.

    Names are those of `PUBLIC_FILES`. A file in the cache is checked as well. Raises ValueError for another name, and
    OSError (naming the address, the expected hash and the place for a copy by hand) when the file cannot be had or
    its hash is wrong; nothing half-written stays.
    """
    if name not in PUBLIC_FILES:
        raise ValueError(f"no public file {name!r}; there are {', '.join(PUBLIC_FILES)}")
    public = PUBLIC_FILES[name]
    path = cache / f"{name}{Path(public.url).suffix}"
    if path.exists():
        with path.open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if found != public.sha256:
            raise OSError(f"{path}: SHA-256 {found}, expected {public.sha256}; delete it to fetch {public.url} again")
        return path
    cache.mkdir(parents=True, exist_ok=True)
    print(f"manifill: fetching {public.url}", file=sys.stderr)
    try:
        torch.hub.download_url_to_file(public.url, str(path), public.sha256)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # an answer in itself
        raise OSError(
            f"could not fetch {public.url}: {error}. Expected SHA-256 {public.sha256}. "
            f"To go on without a connection, put the file at {path}"
        ) from error
    return path
