"""What the tests share: the reference model, a small real photo, a folder of pictures and a seed-free fast PyTorch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manifill import Inpainter
from manifill.data import masks
from manifill.train import report

# a suite that is started in the background inherits an ignored SIGINT, and so would the processes that it interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)

REFERENCE = Path(__file__).parent / "reference"
EXAMPLES = Path(__file__).parent.parent / "examples"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, of the page and of trainings: two processes then end at about the same time."""
    long = [Path(__file__).parent / name for name in ("web", "train")]
    items.sort(key=lambda item: [not item.path.is_relative_to(folder) for folder in long])


@pytest.fixture(scope="session")
def reference_model() -> Path:
    """A small model converted from the authors' format, for pictures of 64 pixels."""
    return REFERENCE / "model"


@pytest.fixture(scope="session")
def inpainter(reference_model: Path) -> Inpainter:
    """The reference model: random weights, every network there."""
    return Inpainter.from_pretrained(reference_model, "cpu")


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    """A real face, uint8 (128, 128, 3)."""
    return np.asarray(Image.open(EXAMPLES / "astronaut.png").convert("RGB"))


@pytest.fixture
def photo_and_mask(tmp_path: Path, face: np.ndarray) -> tuple[Path, Path]:
    """The face and a centre hole as files."""
    photo, mask = tmp_path / "face.png", tmp_path / "hole.png"
    Image.fromarray(face).save(photo)
    hole = masks.centre(128, np.random.default_rng(0))
    Image.fromarray((hole * 255).astype(np.uint8)).save(mask)
    return photo, mask


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> Path:
    """A folder of 24 real pictures: crops of the face, turned and tinted."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for k in range(24):
        y, x = rng.integers(0, 48, 2)
        crop = np.rot90(face[y : y + 80, x : x + 80], k % 4).astype(float) * rng.uniform(0.6, 1.2, 3)
        Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(folder / f"{k:02d}.png")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _without_reports() -> Iterator[None]:
    """Trainings write no report, which takes longer than they do: tests/train/test_report.py has it written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", lambda out: out / "report.html")
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
