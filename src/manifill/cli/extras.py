"""Packages that a verb needs and that not everybody installs: looked for before the verb works for minutes."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {
    "accelerate": "train",
    "fastapi": "serve",
    "huggingface_hub": "hub",
    "matplotlib": "train",
    "python_multipart": "serve",
    "skimage": "evaluate",
    "sklearn": "evaluate",
    "tensorboard": "tensorboard",
    "tensorflow": "convert",
    "uvicorn": "serve",
    "webdataset": "train",
}


def need(what: str, *packages: str) -> None:
    """Raise ValueError, which says what to install, where one of these packages is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(f"{what} needs {', '.join(missing)}: pip install 'manifill[{EXTRAS[missing[0]]}]'")
