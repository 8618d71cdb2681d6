"""What `examples/` shows runs."""

from __future__ import annotations

import json
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


def test_the_notebook_runs_and_stores_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec("".join(cell["source"]), names)
    for name in ("photo", "mask"):
        assert Path(str(names[name])).is_file()
    found = names["found"]
    assert isinstance(found, list)
    assert all(isinstance(completion.image, Image.Image) for completion in found)
