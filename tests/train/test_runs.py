"""Training: resumable to the same weights, honest about its data, and gated between the stages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from manifill import cli
from manifill.data import masks
from manifill.data.batches import Batches
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError
from manifill.inpainter import Inpainter
from manifill.networks.checkpoint import ModelError, load_vqvae
from manifill.train.config import RunOptions
from manifill.train.diagnosis import check_vqvae
from manifill.train.distributed import Share
from manifill.train.loop import average, schedule
from manifill.train.losses import adversarial_loss, discriminator_loss
from manifill.train.measure import vqvae_metrics
from manifill.train.presets import PRESETS
from manifill.train.run import train
from manifill.train.sampled_codes import neighbours, perturb
from manifill.train.weight_norm import fold, spectral_normalise, weight_normalise

OPTIONS = RunOptions(quiet=True, force=True, log_every=5, validate_every=10, checkpoint_every=5)


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of all three stages."""
    out = tmp_path_factory.mktemp("run")
    train(("vqvae", "structure", "texture"), [pictures], out, "tiny", OPTIONS)
    return out


def test_a_run_leaves_a_model_metrics_and_previews(trained: Path, face: np.ndarray) -> None:
    model = Inpainter.from_pretrained(trained / "model", "cpu")
    hole = np.zeros((128, 128), np.bool_)
    hole[40:80, 40:80] = True
    assert len(list(model(face, hole, num_samples=2, seed=0))) == 2
    for stage, figure in (("vqvae", "val_psnr_structure"), ("structure", "val_bits_hole"), ("texture", "val_psnr")):
        lines = [json.loads(line) for line in (trained / stage / "metrics.jsonl").read_text().splitlines()]
        assert any(figure in line for line in lines)
        assert all(np.isfinite(list(line.values())).all() for line in lines)
        assert len(list((trained / stage).glob("preview_*.png"))) == getattr(PRESETS["tiny"], stage).steps // 10
    card = (trained / "model" / "README.md").read_text()
    assert "manifill train" in card
    assert "psnr_structure" in card


def test_loss_falls(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "vqvae" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["reconstruction"] for line in lines if "reconstruction" in line]
    assert losses[-1] < 0.8 * losses[0]


def command(pictures: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "manifill", "train", "all", "--preset", "tiny", "--force", "--quiet"),
        *("--data", str(pictures), "--out", str(out)),
        *("--log-every", "5", "--validate-every", "10", "--checkpoint-every", "5"),
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {f"{f.stem}.{k}": v for f in sorted((out / "model").glob("*.safetensors")) for k, v in load_file(f).items()}


def test_killed_runs_resume_to_the_same_weights(trained: Path, pictures: Path, tmp_path: Path) -> None:
    """Kill a real process in each stage, run the same command again, and compare with the uninterrupted run."""
    out = tmp_path / "run"
    for stage in ("vqvae", "structure", "texture"):
        process = subprocess.Popen(command(pictures, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (out / stage / "checkpoint.pt").exists():
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert cli.main(command(pictures, out)[3:]) == 0
    ours, wanted = weights(out), weights(trained)
    assert ours.keys() == wanted.keys()
    assert [k for k in wanted if not torch.equal(ours[k], wanted[k])] == []
    for stage in ("vqvae", "structure", "texture"):
        logs = [(folder / stage / "metrics.jsonl").read_text().splitlines() for folder in (out, trained)]
        steps = [[json.loads(line)["step"] for line in log] for log in logs]
        assert steps[0] == steps[1]


def test_resuming_with_other_settings_is_refused(trained: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match=r"training\.batch_size: 4 then, 2 now"):
        train(("vqvae",), [pictures], trained, "tiny", RunOptions(quiet=True, batch_size=2))


def test_starting_from_weights(trained: Path, pictures: Path, tmp_path: Path) -> None:
    options = RunOptions(quiet=True, force=True, steps=1, learning_rate=1e-6, init_from=trained / "model")
    train(("vqvae",), [pictures], tmp_path, "tiny", options)
    started, _ = load_vqvae(tmp_path / "model")
    finished, _ = load_vqvae(trained / "model")
    fresh = load_vqvae_of(tmp_path / "fresh", pictures)
    image = torch.rand(2, 3, 64, 64) * 2 - 1

    def far(model: torch.nn.Module) -> float:
        return float((model.encode(image).structure_features - finished.encode(image).structure_features).abs().mean())

    assert far(started) < 0.05 * far(fresh)
    with pytest.raises(
        ModelError, match=r"vqvae\.safetensors: does not have the preset's sizes .*width: 16 then, 64 now"
    ):
        train(
            ("vqvae",), [pictures], tmp_path / "other", "faces-128", RunOptions(quiet=True, init_from=trained / "model")
        )
    with pytest.raises(ModelError, match="no such model folder"):
        train(("vqvae",), [pictures], tmp_path / "none", "tiny", RunOptions(quiet=True, init_from=tmp_path / "nothing"))


def load_vqvae_of(out: Path, pictures: Path) -> torch.nn.Module:
    train(("vqvae",), [pictures], out, "tiny", RunOptions(quiet=True, force=True, steps=1))
    return load_vqvae(out / "model")[0]


def test_gates(trained: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"vqvae\.safetensors: missing; train the vqvae stage"):
        train(("structure",), [pictures], tmp_path, "tiny", RunOptions(quiet=True))
    vqvae, header = load_vqvae(trained / "model")
    vqvae.encoder.structure_quantiser.codebook.zero_()  # structure codes that carry nothing
    found = vqvae_metrics(vqvae, Pictures([pictures], 64, quiet=True), torch.device("cpu"))
    with pytest.raises(ModelError, match=r"they carry nothing; its structure codebook has collapsed: 1 codes used"):
        check_vqvae(found, header.path, force=False)
    check_vqvae(found, header.path, force=True)
    good = found | {
        "psnr_structure": found["psnr_mean_colour"] + 3,
        "structure_perplexity": 20.0,
        "texture_perplexity": 20.0,
    }
    check_vqvae(good, header.path, force=False)


def test_batches_are_a_function_of_seed_and_step(pictures: Path) -> None:
    data = Pictures([pictures], 32, quiet=True)
    a, b = Batches(data, 4, seed=1, flip=True), Batches(data, 4, seed=1, flip=True)
    for step in (7, 0, 13):
        (x, rng), (y, other) = a(step), b(step)
        assert torch.equal(x, y)
        assert torch.equal(masks.draw(("brush",), 2, 32, rng), masks.draw(("brush",), 2, 32, other))
    epoch = torch.cat([Batches(data, 4, seed=1, flip=False)(s)[0] for s in range(6)])
    everything = data.tensor(range(24))
    assert sorted(epoch.sum((1, 2, 3)).tolist()) == sorted(everything.sum((1, 2, 3)).tolist())


def test_sources(pictures: Path, tmp_path: Path) -> None:
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for file in sorted(pictures.iterdir()):
            tar.add(file, file.name)
    from_folder, from_tar = Pictures([pictures], 32, quiet=True), Pictures([shard], 32, quiet=True)
    assert from_folder.digest == from_tar.digest
    (tmp_path / "broken.png").write_bytes((pictures / "00.png").read_bytes()[:200])
    mixed = Pictures([pictures, tmp_path / "broken.png"], 32, quiet=True)
    assert (len(mixed), mixed.skipped) == (24, [str(tmp_path / "broken.png")])
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "none", "no such file"), (tmp_path / "empty", "holds no picture")):
        with pytest.raises(DataError, match=words):
            Pictures([path], 32, quiet=True)
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match="not a readable tar"):
        Pictures([tmp_path / "bad.tar"], 32, quiet=True)


def test_pictures_are_cropped_upright_and_square(tmp_path: Path) -> None:
    wide = np.zeros((50, 100, 3), np.uint8)
    wide[:, 25:75] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    cropped = Pictures([tmp_path], 32, quiet=True).array
    assert (cropped[:, :, 1:-1] > 250).all()  # at the border the filter sees what was cut off


@pytest.mark.parametrize("kind", list(masks.KINDS))
def test_masks(kind: str) -> None:
    rng = np.random.default_rng(0)
    drawn = masks.draw((kind,), 50, 128, rng)
    assert drawn.shape == (50, 1, 128, 128)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    share = drawn.mean((1, 2, 3))
    if kind == "brush":
        assert 0.02 < share.mean() < 0.5
        assert share.std() > 0.03
    elif kind == "any":
        assert 0.05 <= share.min() < 0.3
        assert 0.7 < share.max() <= 1
    else:
        assert (share == 0.25).all()
    assert len({m.numpy().tobytes() for m in drawn}) == (1 if kind == "centre" else 50)


def test_hinge_losses() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 0.5))
    assert adversarial_loss(fake).item() == 1.0


def test_average_follows_quickly_at_first() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    averaged = average(layer, 0.999)
    wanted = None
    for n, value in enumerate([3.0, 5.0, -1.0, 4.0]):
        torch.nn.init.constant_(layer.weight, value)
        averaged.update_parameters(layer)
        decay = min(0.999, (1 + n) / (10 + n))
        wanted = value if wanted is None else decay * wanted + (1 - decay) * value
    assert averaged.module.weight.item() == pytest.approx(wanted)


def test_schedules() -> None:
    noam = schedule("noam", 0.18, lambda: 1, width=128)
    peak = max(range(20000), key=noam)
    assert noam(peak) == pytest.approx(0.18 * 128**-0.5 * min((peak + 1) ** -0.35, (peak + 1) * 16000**-1.5))
    planned = 1000
    cosine = schedule("cosine", 1e-3, lambda: planned)
    assert cosine(0) < cosine(50) == pytest.approx(1e-3)
    assert cosine(999) < 1e-8
    middle, planned = cosine(500), 600
    assert cosine(500) < middle / 4  # where fewer steps fit it comes to its end sooner


@pytest.mark.parametrize("wrap", [weight_normalise, spectral_normalise])
def test_folding_keeps_the_function(wrap) -> None:
    from manifill.networks.discriminator import Discriminator

    model = wrap(Discriminator(PRESETS["tiny"].model.discriminator))
    image, mask = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    plain = fold(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.allclose(plain(image, mask), model.eval()(image, mask), atol=1e-6)
    assert not any("parametrizations" in k for k in plain.state_dict())


def test_perturbed_codes_stay_near_and_in_the_hole(trained: Path) -> None:
    vqvae, _ = load_vqvae(trained / "model")
    near = neighbours(vqvae.encoder.structure_quantiser.codebook)
    codes, mask = torch.randint(32, (4, 8, 8)), torch.zeros(4, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    changed = perturb(codes, Share(mask[:, :1], mask, 0, 4), 0.1, near) != codes
    assert not changed[:, :2].any()
    assert not changed[:, 6:].any()
    assert 0 < changed[:, 2:6, 2:6].float().mean() < 0.3
