"""A discriminator that sees: without spectral normalisation, its gradient balanced against the other losses'."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.data.batches import Batches
from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import load_discriminator, load_vqvae, save_network
from manifill.networks.vqvae import VQVAE
from manifill.train import loop
from manifill.train.adversary import Anchors, balance
from manifill.train.config import RunOptions
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.loop import Setup
from manifill.train.losses import discriminator_loss
from manifill.train.presets import PRESETS
from manifill.train.texture import TextureStage

TINY, CPU = PRESETS["tiny"], torch.device("cpu")


@pytest.fixture(scope="module")
def data(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def stage(data: Pictures, norm: str = "none", share: float = 0.5, processes: Processes = ALONE) -> TextureStage:
    torch.manual_seed(0)
    vqvae = VQVAE(TINY.model.vqvae).eval().requires_grad_(False)
    training = dataclasses.replace(TINY.texture, perturb=0.0, discriminator_norm=norm, adversarial_ratio=share)
    found = TextureStage(Setup(dataclasses.replace(TINY, texture=training), data, processes=processes), vqvae)
    for optimiser in (found.optimiser, found.opponent):
        optimiser.param_groups[0]["eps"] = 1e-3  # else Adam makes whole steps of gradients that are rounding alone
    return found


def batch(data: Pictures) -> Share:
    mask = torch.zeros(8, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    return Share(data.tensor(range(8)), mask, 0, 8)


def test_the_adversarial_gradient_has_the_length_asked_for() -> None:
    painted = torch.randn(3, 3, 8, 8, requires_grad=True)
    a, b = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8)
    scale = torch.tensor([1.0, 10.0, 0.1])[:, None, None, None]
    losses = (a * painted).sum(), (1e-4 * scale * b * painted).sum()
    drawn = torch.tensor([False, True, False])
    found, lengths = balance(painted, *losses, torch.tensor(0.5), drawn, torch.tensor(7.0))
    assert torch.allclose(lengths, a.flatten(1).norm(dim=1))
    for k, length in enumerate((lengths[0], 7.0, lengths[2])):
        wanted = a[k] + 0.5 * length * b[k] / b[k].norm()
        assert torch.allclose(found[k], wanted, atol=1e-5)


def test_no_adversarial_gradient_leaves_the_others() -> None:
    painted, a = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 3, 8, 8)
    nothing = torch.zeros(2, dtype=torch.bool), torch.zeros(())
    found, _ = balance(painted, (a * painted).sum(), 0 * painted.sum(), torch.tensor(0.5), *nothing)
    assert torch.equal(found, a)


def gradients(found: TextureStage, share: Share) -> list[Tensor]:
    found.anchors.means += torch.tensor([0.7, -0.7])  # it sees
    found._paint(share)
    return [p.grad.clone() for p in found.model.parameters() if p.grad is not None]


def test_a_share_of_nothing_is_training_without_an_adversary(data: Pictures) -> None:
    least, without = stage(data, share=1e-9), stage(data, share=0.0)
    without.options = dataclasses.replace(without.options, adversarial_weight=0.0)
    pairs = zip(gradients(least, batch(data)), gradients(without, batch(data)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_the_share_waits_for_a_discriminator_that_sees(data: Pictures) -> None:
    found = stage(data)
    for real, composed, due in ((0.0, 0.0, 0.0), (-0.2, 0.3, 0.0), (0.1, -0.3, 0.4), (0.9, -0.8, 1.0)):
        found.anchors.means = torch.tensor([real, composed])
        assert float(found.anchors.sight) == pytest.approx(due)
    found.step(batch(data))
    assert found.state["anchors"] is found.anchors
    assert found.anchors.means[0] != 0.9  # and follows the scores


def test_blind_it_has_no_say(data: Pictures) -> None:
    blind, without = stage(data), stage(data, share=0.0)
    without.options = dataclasses.replace(without.options, adversarial_weight=0.0)
    blind._paint(batch(data))
    without._paint(batch(data))
    pairs = zip(blind.model.parameters(), without.model.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, atol=1e-6) for a, b in pairs if a.grad is not None)


def test_the_usual_length_follows_what_is_finite() -> None:
    anchors, scores = Anchors(), [{"d_real": torch.tensor(1.0), "d_composed": torch.tensor(0.0)}]
    for lengths, wanted in (
        (torch.zeros(0), 0.0),
        (torch.tensor([2.0, 4.0]), 3.0),
        (torch.tensor([torch.inf]), 3.0),
        (torch.tensor([13.0]), 3.1),
        (torch.zeros(0), 3.1),
    ):
        anchors.move(scores, [torch.tensor([lengths.sum(), len(lengths)])], ALONE)
        assert float(anchors.length) == pytest.approx(wanted)


def test_two_shares_make_the_weights_of_one(data: Pictures) -> None:
    found = []
    for processes in (ALONE, Processes(accumulate=2)):
        one = stage(data, processes=processes)
        one.anchors.means += torch.tensor([0.3, -0.3])
        for step in range(2):
            torch.manual_seed(step)
            one.step(batch(data))
        found.append([*one.model.parameters(), *one.discriminator.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


def run(data: Pictures, out: Path, *stops: int) -> dict[str, dict]:
    """Train six steps, stopped and resumed on the way; return the checkpoint's networks."""
    options = RunOptions(log_every=2, validate_every=6, checkpoint_every=2, quiet=True)
    for steps in (*stops, 6):
        loop.run(stage(data), Batches(data, 4, seed=3, flip=False), out, steps, options)
    return torch.load(out / "texture" / "checkpoint.pt", weights_only=True)["state"]


def test_averages_survive_resuming_bit_for_bit(data: Pictures, tmp_path: Path) -> None:
    whole, resumed = run(data, tmp_path / "a"), run(data, tmp_path / "b", 2, 4)
    assert (whole["anchors"]["means"] != 0).all()
    for part in ("anchors", "model", "discriminator"):
        assert all(torch.equal(v, resumed[part][k]) for k, v in whole[part].items()), part


def test_without_spectral_normalisation_it_sees_sooner(data: Pictures) -> None:
    share, hinge = batch(data), {}
    blurred = torch.nn.functional.avg_pool2d(share.image, 5, 1, 2)
    composed = blurred * share.mask + share.image * (1 - share.mask)
    for norm in ("spectral", "none"):
        found = stage(data, norm)
        found.opponent = torch.optim.Adam(found.discriminator.parameters(), 1e-3, betas=(0.5, 0.999))
        for _ in range(60):
            found.opponent.zero_grad()
            found._judge(share, composed)
            found.opponent.step()
        with torch.no_grad():
            hinge[norm] = float(
                discriminator_loss(*(found.discriminator(x, share.mask) for x in (share.image, composed)))
            )
    assert hinge["none"] < 0.8 * hinge["spectral"], hinge


def test_plain_weights_are_exported_as_they_are(data: Pictures, tmp_path: Path) -> None:
    found = stage(data)
    found.step(batch(data))
    save_network(tmp_path, "vqvae", found.vqvae, 64, 1, {})
    found.export(tmp_path, 1, {"psnr": 1.0}, last=True)
    loaded, _ = load_discriminator(tmp_path, load_vqvae(tmp_path)[1].codebook)
    assert all(torch.equal(v, found.discriminator.state_dict()[k]) for k, v in loaded.state_dict().items())
