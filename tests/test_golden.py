"""Codes, first losses, manifest and API are what they were: see scripts/golden.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import golden  # noqa: E402


@pytest.mark.slow
def test_nothing_has_changed_here_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["golden.py"])
    assert golden.main() == 0


def test_nothing_has_changed() -> None:
    wanted = json.loads(golden.FILE.read_text())["everywhere"]
    found = json.loads(json.dumps(golden.measure(everything=False)))["everywhere"]
    assert golden.differences(wanted, found, tolerance=1e-4) == []
