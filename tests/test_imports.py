"""Imports point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "manifill"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_inpainting_loads_no_training_evaluation_or_tensorflow() -> None:
    loaded = loaded_by("import manifill.inpainter")
    foreign = (
        "manifill.train",
        "manifill.evaluate",
        "manifill.convert",
        "manifill.web",
        "tensorflow",
        "scipy",
        "skimage",
        "sklearn",
        "matplotlib",
        "cv2",
    )
    assert [m for m in loaded if m.startswith(foreign)] == []


@pytest.mark.parametrize("module", ["manifill", "manifill.cli", "manifill.config"])
def test_light_modules_do_not_load_pytorch(module: str) -> None:
    assert "torch" not in loaded_by(f"import {module}")


def test_the_public_api_is_a_list() -> None:
    import manifill

    assert all(getattr(manifill, name) for name in manifill.__all__)


def test_files_stay_readable() -> None:
    assert {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 350} == {}
