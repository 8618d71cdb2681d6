"""The paper's ablations: presets that differ in one thing, trained alike and put in one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from manifill import cli
from manifill.config import to_dict
from manifill.networks.checkpoint import ModelError
from manifill.train.perceptual import feature_maps, gram, perceptual_loss, vgg16
from manifill.train.presets import ABLATIONS, PRESETS, preset
from manifill.train.settings import differences


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_a_variant_changes_what_it_says_alone(name: str) -> None:
    base, variant = to_dict(PRESETS["faces-64"]), to_dict(preset(f"faces-64+{name}"))
    changed = {line.split(":")[0] for line in differences(base, variant)}
    table = {2: {"model.texture.attention", "model.texture.scores"}, 3: {"texture.features"}}
    assert changed <= table[ABLATIONS[name].table]
    assert bool(changed) == (name != "attention-full-structural")  # that one is the paper's


@pytest.mark.parametrize("name", ["faces-65", "faces-64+nothing", "+attention-none"])
def test_unknown_presets_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no such preset; expected one of paper-256"):
        preset(name)


def test_perceptual_loss() -> None:
    a, b = torch.rand(2, 4, 6, 6), torch.rand(2, 4, 6, 6)
    assert perceptual_loss([a], [a]) == 0
    assert perceptual_loss([a, b], [b, a]) > 0
    assert torch.allclose(gram(a)[0, 1, 2], (a[0, 1] * a[0, 2]).mean())
    shuffled = a.flatten(2)[:, :, torch.randperm(36)].view_as(a)
    style_alone = perceptual_loss([a], [shuffled])
    assert torch.allclose(style_alone, F.l1_loss(a, shuffled) / shuffled.abs().mean(), atol=1e-5)  # no place in style


def test_vgg16_is_a_network_for_the_perceptual_loss(tmp_path: Path) -> None:
    layers, _ = vgg16()
    weights = {f"features.{name}": value for name, value in layers.state_dict().items()}
    save_file(weights | {"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "vgg.safetensors")
    maps = feature_maps(tmp_path / "vgg.safetensors", torch.device("cpu"))
    a, b = (torch.rand(1, 3, 32, 32) * 255).requires_grad_(), torch.rand(1, 3, 32, 32) * 255
    found = maps(a)
    assert [tuple(x.shape[1:3]) for x in found] == [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]
    perceptual_loss(found, maps(b)).backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors: neither VGG-16"):
        feature_maps(tmp_path / "other.safetensors", torch.device("cpu"))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", "ablate", *map(str, words)])
    return cli.main()


def test_ablate_trains_and_tabulates(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, small = tmp_path / "out", {k: ABLATIONS[k] for k in ("attention-none", "attention-full-learned")}
    monkeypatch.setattr("manifill.evaluate.ablations.ABLATIONS", small)
    monkeypatch.setattr("manifill.train.diagnosis.MARGIN", -100.0)  # a VQ-VAE of 40 steps carries little
    words = ["--data", pictures, "--out", out, "--preset", "tiny", "--steps", 3, "--quiet"]
    assert run(monkeypatch, *words) == 0
    codes = np.load(out / "structures.npz")["codes"]
    assert codes.shape[1:] == (8, 8)
    found = json.loads((out / "ablations.json").read_text())
    assert list(found) == list(small)
    assert all(m["step"] == 3 and m["figures"]["psnr"] > 5 for m in found.values())
    assert found["attention-none"]["figures"] != found["attention-full-learned"]["figures"]
    lines = (out / "ablations.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == list(small)
    assert run(monkeypatch, *words) == 0  # again: nothing is trained anew
    assert np.array_equal(np.load(out / "structures.npz")["codes"], codes)
    again = json.loads((out / "ablations.json").read_text())
    assert {k: m["figures"] for k, m in again.items()} == {k: m["figures"] for k, m in found.items()}
    known = found["attention-none"]["about"]
    assert known["codes"] == "sampled"
    del small["attention-none"]
    other = ["--model", out / "first" / "model", "--out", tmp_path / "other", *words[:2], *words[4:]]
    assert run(monkeypatch, *other) == 0  # the same VQ-VAE and structures, none of them trained again
    assert not (tmp_path / "other" / "first").exists()
    same = json.loads((tmp_path / "other" / "ablations.json").read_text())
    assert {k: m["figures"] for k, m in same.items()} == {k: found[k]["figures"] for k in small}


def test_the_perceptual_loss_needs_its_network(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["--data", pictures, "--out", tmp_path / "run", "--preset", "tiny+losses-perceptual", "--quiet"]
    monkeypatch.setattr("manifill.train.diagnosis.MARGIN", -100.0)
    monkeypatch.setattr(sys, "argv", ["manifill", "train", "vqvae", *map(str, words), "--steps", "2"])
    assert cli.main() == 0
    monkeypatch.setattr(sys, "argv", ["manifill", "train", "texture", *map(str, words)])
    assert cli.main() == 2
    assert "name it with --perceptual" in capsys.readouterr().err
