"""A texture generator trained on sampled codes: which they are, what is asked of it, and that runs remember by whom."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from manifill import Inpainter
from manifill.cli import main
from manifill.data import masks
from manifill.data.pictures import Pictures
from manifill.networks.vqvae import untouched
from manifill.photos.tensors import to_tensor
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.loop import Setup
from manifill.train.losses import UNKNOWN, feature_loss
from manifill.train.presets import PRESETS
from manifill.train.sampled_codes import CodeSampler, targets
from manifill.train.texture import TextureStage

TINY, CPU = PRESETS["tiny"], torch.device("cpu")


@pytest.fixture(scope="module")
def bundled() -> Inpainter:
    return Inpainter.from_pretrained("faces-128", "cpu")


def test_codes_are_those_of_completions_by_default(bundled: Inpainter, face: np.ndarray) -> None:
    hole = masks.centre(128, np.random.default_rng(0)) > 0
    image, mask = to_tensor(face), torch.from_numpy(hole)[None, None].float()
    truth = bundled.vqvae.encode(image).structure_codes
    sampler = CodeSampler(bundled.structure, bundled.vqvae, CPU)
    found = sampler.codes(
        image.expand(2, -1, -1, -1), mask.expand(2, -1, -1, -1), truth.expand(2, -1, -1), torch.tensor([5, 6])
    )
    wanted = [c.codes[0] for c in bundled(face, hole, num_samples=2, seed=5)]
    assert np.array_equal(found.numpy(), np.stack(wanted))
    kept = untouched(mask).expand(2, -1, -1)
    assert torch.equal(found[kept], truth.expand(2, -1, -1)[kept])
    assert not torch.equal(found[0], found[1])
    assert sampler.codes(image[:0], mask[:0], truth[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 16, 16)


def test_the_precision_of_a_training_does_not_change_what_is_sampled(bundled: Inpainter, face: np.ndarray) -> None:
    image = to_tensor(face).expand(3, -1, -1, -1)
    mask = masks.centre_mask(image)
    truth, seeds = bundled.vqvae.encode(image).structure_codes, torch.tensor([5, 6, 7])
    sampler = CodeSampler(bundled.structure, bundled.vqvae, CPU)
    alone = sampler.codes(image, mask, truth, seeds)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sampler.codes(image, mask, truth, seeds), alone)
        within = CodeSampler(bundled.structure, bundled.vqvae, CPU)
        assert torch.equal(within.codes(image, mask, truth, seeds), alone)


def test_nothing_is_asked_where_the_code_is_unknown(bundled: Inpainter, face: np.ndarray) -> None:
    encoder = bundled.vqvae.encoder
    found = bundled.vqvae.encode(to_tensor(face))
    features, codes = found.texture_features.clone().requires_grad_(True), found.texture_codes.clone()
    codes[:, 8:] = UNKNOWN
    loss = feature_loss(encoder.texture_quantiser, features, codes)
    loss.backward()
    assert features.grad is not None
    assert features.grad[:, :, 8:].abs().max() == 0 < features.grad[:, :, :8].abs().max()
    whole = feature_loss(encoder.texture_quantiser, found.texture_features, found.texture_codes)
    assert 0 < loss < whole


def test_what_is_aimed_at(bundled: Inpainter, face: np.ndarray) -> None:
    image = to_tensor(face).expand(2, -1, -1, -1)
    truth, codes, painted = bundled.vqvae.encode(image), torch.full((2, 16, 16), 7), torch.zeros_like(image)
    mask = masks.centre_mask(image)
    wanted, found = targets(Share(image, mask, 0, 2), truth, codes, torch.tensor([False, True]), painted)
    assert torch.equal(wanted[0], image[0])
    assert torch.equal(wanted[1], image[1] * (1 - mask[1]))
    assert torch.equal(found.structure_codes[0], truth.structure_codes[0])
    assert torch.equal(found.structure_codes[1], codes[1])
    assert torch.equal(found.texture_codes[0], truth.texture_codes[0])
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[8:24, 8:24] = True
    assert torch.equal(found.texture_codes[1] == UNKNOWN, inside)


class Constant:
    """Draws one code for every hole, and remembers for which seeds."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def codes(self, image: torch.Tensor, mask: torch.Tensor, truth: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        self.seeds += seeds.tolist()
        return torch.where(untouched(mask), truth, 3)


def stage(inpainter: Inpainter, data: Pictures, processes: Processes = ALONE, **training) -> TextureStage:
    torch.manual_seed(0)
    options = dataclasses.replace(
        TINY.texture,
        **{"perturb": 0.0, "sampled_codes": 0.5, "discriminator_norm": "none", "adversarial_ratio": 1.0} | training,
    )
    texture = dataclasses.replace(TINY.model.texture, codebook_dim=inpainter.texture.config.codebook_dim)
    preset = dataclasses.replace(TINY, texture=options, model=dataclasses.replace(TINY.model, texture=texture))
    setup, sampler = Setup(preset, data, processes=processes), Constant()
    found = TextureStage(setup, inpainter.vqvae, sampler=sampler)  # type: ignore[arg-type]
    for optimiser in (found.optimiser, found.opponent):
        optimiser.param_groups[0]["eps"] = 1e-3  # else Adam makes whole steps of gradients that are rounding alone
    return found


@pytest.fixture(scope="module")
def data(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def batch(data: Pictures) -> Share:
    mask = torch.zeros(8, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    return Share(data.tensor(range(8)), mask, 0, 8)


def test_sampled_holes_are_not_held_against_the_photo(inpainter: Inpainter, data: Pictures) -> None:
    """With L1 alone the photo's pixels in the hole teach nothing where everything is sampled."""
    found = stage(inpainter, data, sampled_codes=1.0, features="none", adversarial_ratio=0.0, adversarial_weight=0.0)
    grads = []
    share = batch(data)
    for image in (share.image, share.image * (1 - share.mask) + 0.3 * share.mask):
        found.optimiser.zero_grad()
        found.sampler = Constant()  # type: ignore[assignment]
        truth = found.vqvae.encode(image)
        found.vqvae.encode = lambda _, truth=truth: truth  # type: ignore[method-assign]
        torch.manual_seed(1)
        losses, _, lengths = found._paint(Share(image, share.mask, 0, 8))
        grads.append([p.grad.clone() for p in found.model.parameters() if p.grad is not None])
        assert lengths.numel() == 0
        assert losses["l1"] > 0
        del found.vqvae.encode
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*grads, strict=True))
    assert max(float(g.abs().max()) for g in grads[0]) > 0


def test_two_shares_draw_as_one(inpainter: Inpainter, data: Pictures) -> None:
    found, seeds = [], []
    for processes in (ALONE, Processes(accumulate=2)):
        one = stage(inpainter, data, processes)
        for step in range(2):
            torch.manual_seed(step)
            one.step(batch(data))
        found.append([*one.model.parameters(), *one.discriminator.parameters(), one.anchors.length])
        seeds.append(one.sampler.seeds)  # type: ignore[union-attr]
    assert seeds[0] == seeds[1]
    assert 0 < len(seeds[0]) < 16
    assert found[0][-1] > 0
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


def test_the_preview_shows_what_is_sampled(inpainter: Inpainter, data: Pictures) -> None:
    found = stage(inpainter, data)
    with_sampled = found.preview()
    found.sampler = None
    assert with_sampled.width == 6 * 66 + 2
    assert found.preview().width == 4 * 66 + 2
    shown = np.asarray(with_sampled)[:, 4 * 66 + 2 : 5 * 66]  # the last column but the photo's: painted as code 3
    true = np.asarray(with_sampled)[:, 2 * 66 + 2 : 3 * 66]
    assert not np.array_equal(shown[18:50, 16:48], true[18:50, 16:48])
    assert np.array_equal(shown[2:18, :16], true[2:18, :16])


def test_a_stage_needs_someone_who_draws(inpainter: Inpainter, data: Pictures) -> None:
    preset = dataclasses.replace(TINY, texture=dataclasses.replace(TINY.texture, sampled_codes=0.5))
    with pytest.raises(ValueError, match="need a structure generator"):
        TextureStage(Setup(preset, data), inpainter.vqvae)


@pytest.mark.filterwarnings("ignore")  # of what a model of two steps cannot do
def test_runs_remember_who_drew(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def run(stage: str, steps: int, *more: str) -> int:
        options = ["--preset", "tiny", "--steps", str(steps), "--validate-every", "2", "--checkpoint-every", "2"]
        words = ["train", stage, "--data", str(pictures), "--out", str(out), *options, "--force", "--quiet", *more]
        monkeypatch.setattr("sys.argv", ["manifill", *words])
        return main()

    assert run("vqvae", 2) == 0
    assert run("texture", 2, "--sampled-codes", "0.5", "--adversarial-ratio", "0.5") == 2
    assert "sampled codes need a structure generator" in capsys.readouterr().err
    assert run("structure", 2) == 0
    assert run("texture", 2, "--sampled-codes", "0.5", "--adversarial-ratio", "0.5") == 0
    settings = json.loads((out / "texture" / "config.json").read_text())
    assert len(settings["drawn_from"]) == 16
    assert "--sampled-codes 0.5" in (out / "model" / "README.md").read_text()
    assert run("texture", 4, "--sampled-codes", "0.5", "--adversarial-ratio", "0.5") == 0
    assert json.loads((out / "structure" / "config.json").read_text())["drawn_from"] is None

    shutil.rmtree(out / "structure")
    (out / "model" / "structure.safetensors").unlink()
    assert run("structure", 3, "--seed", "9") == 0
    assert run("texture", 4, "--sampled-codes", "0.5", "--adversarial-ratio", "0.5") == 2
    assert "drawn_from" in capsys.readouterr().err
