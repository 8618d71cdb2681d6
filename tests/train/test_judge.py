"""The best texture generator by a named metric is kept, the last one beside it; held-out pictures are spread."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from manifill.data.dataset import mixed
from manifill.data.pictures import Pictures
from manifill.evaluate.features import _alexnet
from manifill.evaluate.judge import PROTOCOLS, LPIPSJudge
from manifill.train.config import RunOptions
from manifill.train.run import train


class Told:
    """A judge whose verdicts are given."""

    name = "told"

    def __init__(self, *verdicts: float) -> None:
        self.verdicts = list(verdicts)

    def __call__(self, complete, pictures, device):
        image = pictures.tensor(range(2)).to(device)
        mask = torch.zeros(2, 1, *image.shape[2:])
        mask[..., :8] = 1
        assert torch.equal(complete(image, mask)[..., 8:], image[..., 8:])
        return {self.name: self.verdicts.pop(0)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(folder / f"{k:02d}.png")
    return folder


def test_every_beginning_of_the_held_out_pictures_is_spread():
    assert mixed(list(range(8))) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(mixed(list(range(11)))) == list(range(11))
    assert mixed([5]) == [5]


def test_the_best_is_kept_and_the_last_beside_it(pictures, tmp_path):
    options = RunOptions(steps=3, validate_every=1, checkpoint_every=1, quiet=True, force=True, precision="fp32")
    train(("vqvae",), [pictures], tmp_path, "tiny", options, [pictures])
    train(("texture",), [pictures], tmp_path, "tiny", options, [pictures], Told(0.3, 0.1, 0.2))
    best, last = (load_file(tmp_path / name / "texture.safetensors") for name in ("model", "last"))
    saved = torch.load(tmp_path / "texture" / "checkpoint.pt", weights_only=True)
    assert float(saved["state"]["best"]["lowest"]) == pytest.approx(0.1)
    assert any(not torch.equal(best[k], last[k]) for k in best)


def test_lpips_judges_three_kinds_of_holes(tmp_path):
    torch.manual_seed(0)
    network, taps = _alexnet()
    weights = {f"features.{k}": v for k, v in network.state_dict().items()}
    for k, tap in enumerate(taps):
        weights[f"lin{k}.model.1.weight"] = torch.rand(1, network.get_parameter(f"{tap - 1}.weight").shape[0], 1, 1)
    save_file(weights, tmp_path / "alex.safetensors")

    class Held:
        size = 64

        def __len__(self):
            return 3

        def tensor(self, rows):
            return torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).expand(len(rows), -1, -1, -1)

        batches = Pictures.batches

    judge = LPIPSJudge(tmp_path / "alex.safetensors")
    assert set(judge(lambda image, mask: image, Held(), torch.device("cpu")).values()) == {0.0}
    found = judge(lambda image, mask: image * (1 - mask), Held(), torch.device("cpu"))
    assert set(found) == {"lpips_alex", *(f"lpips_alex_{p}" for p in PROTOCOLS)}
    assert found["lpips_alex"] == pytest.approx(sum(found[f"lpips_alex_{p}"] for p in PROTOCOLS) / 3)
    assert min(found.values()) > 0
