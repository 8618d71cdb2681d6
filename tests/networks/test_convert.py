"""Checkpoints that cannot be converted are refused with the name of what is wrong, and nothing is written."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from manifill import cli
from manifill.networks.checkpoint import ModelError
from manifill.networks.convert import Variables, convert, read_variables, to_networks

REFERENCE = Path(__file__).parents[1] / "reference"


def test_folders_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent: no such folder"):
        convert(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ModelError, match=r"holds no TensorFlow checkpoint"):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "vqvae.safetensors").write_bytes(b"precious")
    with pytest.raises(ModelError, match="out"):
        convert(REFERENCE, tmp_path / "out")
    assert (tmp_path / "out" / "vqvae.safetensors").read_bytes() == b"precious"


@pytest.fixture(scope="module")
def variables() -> Variables:
    pytest.importorskip("tensorflow", reason="needs the extra [convert]")
    return read_variables(REFERENCE)


@pytest.mark.tensorflow
@pytest.mark.parametrize("scope", ["vq_encoder", "structure_condition", "structure_pixelcnn", "texture_generator"])
def test_a_missing_variable_is_named(variables: Variables, scope: str) -> None:
    names = sorted(name for name in variables if name.startswith(scope + "/") and "Adam" not in name)
    for name in names[:: max(len(names) // 12, 1)]:
        rest = {k: v for k, v in variables.items() if k != name}
        with pytest.raises(ModelError, match=name.rsplit("/", 1)[0]):
            to_networks(rest)


@pytest.mark.tensorflow
def test_strange_variables_are_named(variables: Variables) -> None:
    more = {**variables, "texture_generator/conv_999/kernel": np.zeros((3, 3, 4, 4), np.float32)}
    with pytest.raises(ModelError, match="conv_999"):
        to_networks(more)
    with pytest.raises(ModelError, match=r"expected at least vq_encoder and vq_decoder"):
        to_networks({k: v for k, v in variables.items() if not k.startswith("vq_")})


@pytest.mark.tensorflow
@pytest.mark.parametrize("part", ["data-00000-of-00001", "index"])
def test_a_truncated_checkpoint_is_named(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("tensorflow", reason="needs the extra [convert]")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in REFERENCE.glob("model.ckpt.*"):
        shutil.copy(file, folder)
    broken = folder / f"model.ckpt.{part}"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    monkeypatch.setattr(sys, "argv", ["manifill", "convert", str(folder), "--out", str(tmp_path / "out")])
    assert cli.main() == 2
    assert "model.ckpt: not a readable TensorFlow checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
