"""What `examples/` shows runs."""

from __future__ import annotations

import base64
import copy
import importlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Web, pixels

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = [EXAMPLES / "astronaut.png", EXAMPLES / "centre.png"]
pytest_plugins = ["web_fixtures"]


def client(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / "client.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_client_saves_what_the_server_draws(web: Web, tmp_path: Path) -> None:
    done = client(*PICTURES, "--url", web.url, "--out", tmp_path, "--count", 2, "--seed", 4)
    assert done.returncode == 0, done.stderr
    saved = [tmp_path / "astronaut_4.png", tmp_path / "astronaut_5.png"]
    assert done.stdout.split() == [str(path) for path in saved]
    assert sorted(tmp_path.iterdir()) == saved
    assert np.array_equal(pixels(saved[1].read_bytes()), pixels(web.post(seed=5).content))
    assert not web.state.jobs.known


def test_the_client_says_what_the_server_says(web: Web, tmp_path: Path) -> None:
    done = client(*PICTURES, "--url", web.url, "--out", tmp_path, "--count", 100)
    assert done.returncode == 2
    assert "100 samples are asked for" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_notebook_runs_and_stores_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(EXAMPLES.parent / "scripts")
    execute = importlib.import_module("notebook").execute
    stored = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    again = copy.deepcopy(stored)
    names = execute(again)
    assert [picture.size for picture in pictures_of(again)] == [picture.size for picture in pictures_of(stored)]
    for was, now in zip(texts_of(stored), texts_of(again), strict=True):
        assert re.sub(r"-[\d.]+", "", was) == re.sub(r"-[\d.]+", "", now)  # likelihoods differ in the last digits
    assert len(pictures_of(stored)) == 6
    assert (EXAMPLES / "notebook.ipynb").stat().st_size < 500_000
    assert all(isinstance(completion.image, Image.Image) for completion in names["found"])


def outputs_of(notebook: dict) -> list[dict]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def pictures_of(notebook: dict) -> list[Image.Image]:
    """The pictures that a notebook holds."""
    found = [o["data"]["image/png"] for o in outputs_of(notebook) if "image/png" in o.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def texts_of(notebook: dict) -> list[str]:
    """The texts that a notebook holds."""
    return ["".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in outputs_of(notebook)]


def test_a_program_that_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    paths = importlib.import_module("choose").main(tmp_path / "out")
    assert len(paths) == len({path.read_bytes() for path in paths}) + 1 == 7  # the likeliest is one of the four
