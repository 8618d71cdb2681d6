"""Starting from another model: what is kept, what is carried into other codes, and what a time limit allows."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import torch

from manifill.data.pictures import Pictures
from manifill.inpainter import Inpainter
from manifill.networks.checkpoint import ModelError, load_structure, load_texture, load_vqvae, model_hash, save_network
from manifill.train import budget, finetune
from manifill.train.budget import seconds_for
from manifill.train.config import RunOptions
from manifill.train.distributed import ALONE
from manifill.train.presets import PRESETS
from manifill.train.run import train

OPTIONS = RunOptions(quiet=True, force=True, log_every=5, validate_every=10, checkpoint_every=5)
ALL = ("vqvae", "structure", "texture")


@pytest.fixture(scope="module")
def parent(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a tiny run whose VQ-VAE carries something."""
    out = tmp_path_factory.mktemp("parent")
    once = dataclasses.replace(OPTIONS, validate_every=300, checkpoint_every=300)
    train(("vqvae",), [pictures], out, "tiny", dataclasses.replace(once, steps=300))
    train(("structure", "texture"), [pictures], out, "tiny", once)
    return out / "model"


@pytest.fixture(scope="module")
def held(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def permuted(folder: Path, out: Path) -> torch.Tensor:
    """Write the VQ-VAE of `folder` with its structure codes in another order; return that order."""
    vqvae, header = load_vqvae(folder)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    quantiser = vqvae.encoder.structure_quantiser
    for buffer in (quantiser.codebook, quantiser.sizes, quantiser.sums):
        buffer.copy_(buffer[order].clone())
    save_network(out, "vqvae", vqvae, header.image_size, header.step, header.figures)
    return order


def test_a_vqvae_that_serves_is_kept_and_the_rest_trained(
    parent: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = dataclasses.replace(OPTIONS, init_from=parent, steps=2, learning_rate=1e-6)
    train(ALL, [pictures], tmp_path, "tiny", options)
    assert "vqvae: kept" in capsys.readouterr().out
    assert (tmp_path / "model" / "vqvae.safetensors").read_bytes() == (parent / "vqvae.safetensors").read_bytes()
    assert not (tmp_path / "vqvae").exists()
    assert (tmp_path / "structure" / "metrics.jsonl").exists()
    before = model_hash(tmp_path / "model")
    train(ALL, [pictures], tmp_path, "tiny", options)  # the same command again changes nothing
    assert model_hash(tmp_path / "model") == before
    Inpainter.from_pretrained(tmp_path / "model", "cpu")


def test_a_vqvae_that_does_not_serve_is_trained_on(
    parent: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    boasting = tmp_path / "boasting"
    boasting.mkdir()
    for file in parent.glob("*.safetensors"):
        (boasting / file.name).write_bytes(file.read_bytes())
    vqvae, header = load_vqvae(parent)
    save_network(boasting, "vqvae", vqvae, header.image_size, header.step, header.figures | {"psnr": 60.0})
    options = dataclasses.replace(OPTIONS, init_from=boasting, steps=2)
    train(ALL, [pictures], tmp_path / "run", "tiny", options)
    said = capsys.readouterr().out
    assert "vqvae: to be trained on" in said
    assert "its own at 60.0 dB" in said
    assert "structure: carried over" in said  # the codebook has moved
    Inpainter.from_pretrained(tmp_path / "run" / "model", "cpu")


def test_one_stage_takes_the_others_over(parent: Path, pictures: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, init_from=parent, steps=2)
    train(("texture",), [pictures], tmp_path, "tiny", options)
    model = tmp_path / "model"
    whole = {f.name for f in model.glob("*.safetensors")}
    assert whole == {"vqvae.safetensors", "structure.safetensors", "texture.safetensors", "discriminator.safetensors"}
    assert (model / "structure.safetensors").read_bytes() == (parent / "structure.safetensors").read_bytes()
    Inpainter.from_pretrained(tmp_path / "model", "cpu")


def test_without_a_model_to_start_from_a_vqvae_is_asked_for(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train the vqvae stage"):
        train(("structure",), [pictures], tmp_path, "tiny", OPTIONS)


def test_carrying_over_undoes_another_order_of_the_codes(parent: Path, held: Pictures, tmp_path: Path) -> None:
    """The same VQ-VAE with its codes in another order: exactly the old predictions, in that order."""
    order = permuted(parent, tmp_path)
    old, header = load_vqvae(parent)
    new, _ = load_vqvae(tmp_path)
    wanted = PRESETS["tiny"].model
    before, _ = load_structure(parent, header.codebook)
    after = finetune.init_network("structure", parent, new, held, wanted.structure)
    painter, _ = load_texture(parent, header.codebook)
    carried = finetune.init_network("texture", parent, new, held, wanted.texture)
    image, mask = held.tensor(range(4)), torch.zeros(4, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    codes = old.encode(image).structure_codes
    used = codes.unique()
    moved = torch.argsort(order)[codes]  # new code i is old code order[i]
    with torch.no_grad():
        a = before.logits(old.lookup(codes), before.condition(image, mask))[:, used].log_softmax(1)
        places = torch.argsort(order)[used]
        b = after.logits(new.lookup(moved), after.condition(image, mask))[:, places].log_softmax(1)
        assert float((a - b).abs().mean()) < 0.1
        plain = before.logits(new.lookup(moved), before.condition(image, mask))[:, places].log_softmax(1)
        assert float((a - plain).abs().mean()) > 2 * float((a - b).abs().mean())
        c, d = painter(image, mask, old.lookup(codes)), carried(image, mask, new.lookup(moved))
        assert float((c - d).abs().mean()) < 0.02


def test_time_is_divided_among_the_stages_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ends = 100.0 + 600
    assert seconds_for("vqvae", ["structure", "texture"], ends) == pytest.approx(120)
    now[0] += 300  # the first stage took twice its time
    assert seconds_for("structure", ["texture"], ends) == pytest.approx(300 * 0.35 / 0.8)
    assert seconds_for("texture", [], ends) == pytest.approx(300)
    now[0] += 1000
    assert seconds_for("texture", [], ends) == 0


def test_a_trial_says_how_many_steps_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(budget, "own_share", lambda *_: None)

    class Slow:
        """Takes 5 s a step until it is warm, then 2; a validation with its preview takes 4."""

        masks = ()

        def step(self, own: None) -> list[dict]:
            now[0] += 2.0 if now[0] >= 20 else 5.0
            return [{"loss": torch.tensor(1.0)}]

        def validate(self) -> None:
            now[0] += 3

        def preview(self) -> None:
            now[0] += 1

    fits = budget.steps_that_fit(Slow(), None, 100.0, ALONE)  # type: ignore[arg-type]
    assert fits == (100 - 4 * 5 - 4 * 2 - 5 * 4) / 2  # its own validation counts beside the four to come
    now[0] = 0.0
    assert budget.steps_that_fit(Slow(), None, 20.0, ALONE) == 0  # type: ignore[arg-type]


def test_steps_and_minutes_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="give one of them"):
        RunOptions(steps=3, minutes=1)
