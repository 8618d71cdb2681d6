"""How a VQ-VAE starts: as the authors' code, or with codebooks from features of the first batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.data.pictures import Pictures
from manifill.networks.vqvae import VQVAE, Quantiser
from manifill.train.codebooks import first_codebooks, start_from_data, unbiased
from manifill.train.config import Preset
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.loop import Setup
from manifill.train.presets import PRESETS
from manifill.train.vqvae import VQVAEStage

TINY, CPU = PRESETS["tiny"], torch.device("cpu")


@pytest.fixture(scope="module")
def data(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def share(data: Pictures) -> Share:
    image = data.tensor(range(8))
    return Share(image, image[:, :0], 0, 8)


def begun(data: Pictures, start: str, revive: bool = False, processes: Processes = ALONE) -> VQVAEStage:
    torch.manual_seed(0)
    training = dataclasses.replace(TINY.vqvae, codebook_init=start, revive=revive)
    stage = VQVAEStage(Setup(dataclasses.replace(TINY, vqvae=training), data, processes=processes))
    if stage.begin == "data":
        torch.manual_seed(5)
        start_from_data(stage.model, share(data), processes)
    return stage


def codebooks(stage: VQVAEStage) -> list[Tensor]:
    encoder = stage.model.encoder
    return [q.codebook.clone() for q in (encoder.structure_quantiser, encoder.texture_quantiser)]


@torch.no_grad()
def far(stage: VQVAEStage, image: Tensor) -> list[float]:
    """Mean squared distances of the features to their nearest prototypes."""
    e = stage.model.encode(image)
    pairs = ((e.structure_features, e.structure), (e.texture_features, e.texture))
    return [float(((f - q) ** 2).mean()) for f, q in pairs]


def test_starts_by_name() -> None:
    on = dataclasses.replace
    assert first_codebooks(TINY.vqvae) == "data"  # revival has always started from data
    assert first_codebooks(Preset().vqvae) == "paper"
    assert first_codebooks(on(TINY.vqvae, codebook_init="paper")) == "paper"
    assert first_codebooks(on(Preset().vqvae, codebook_init="data")) == "data"


def test_codebooks_from_data_lie_nearer_to_it_and_use_more_codes(data: Pictures) -> None:
    stages = [begun(data, start) for start in ("paper", "data")]
    image = share(data).image
    random, first = (far(s, image) for s in stages)
    assert first[0] < random[0]
    assert first[1] < random[1]
    used = [[len(c.unique()) for c in s.model.encode(image)[4:]] for s in stages]
    assert all(a > 2 * b for a, b in zip(used[1], used[0], strict=True))


def test_start_is_a_function_of_the_seed_however_the_batch_is_divided(data: Pictures) -> None:
    wanted = codebooks(begun(data, "data"))
    assert all(map(torch.equal, codebooks(begun(data, "data")), wanted))
    divided = codebooks(begun(data, "data", processes=Processes(accumulate=4)))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(divided, wanted, strict=True))
    assert all(map(torch.equal, codebooks(begun(data, "auto", revive=True)), wanted))


def test_given_weights_keep_their_codebooks(data: Pictures) -> None:
    preset = dataclasses.replace(TINY, vqvae=dataclasses.replace(TINY.vqvae, codebook_init="data"))
    assert VQVAEStage(Setup(preset, data), VQVAE(TINY.model.vqvae)).begin == "given"


def test_authors_averages_are_those_from_zero_divided_by_what_is_missing() -> None:
    torch.manual_seed(0)
    ours, sizes, sums = Quantiser(32, 8), torch.zeros(32), torch.zeros(32, 8)
    for t in range(4):
        features = torch.randn(2, 8, 4, 4)
        codes = ours.codes(features)
        flat, index = ours.flatten(features), codes.flatten()
        sizes = 0.99 * sizes + 0.01 * torch.bincount(index, minlength=32)
        sums = 0.99 * sums + 0.01 * torch.zeros(32, 8).index_add_(0, index, flat)
        ours.update(features, codes, unbiased(0.99, t))
        missing = 1 - 0.99 ** (t + 1)
        assert torch.allclose(ours.sizes, sizes / missing, atol=1e-5)
        assert torch.allclose(ours.sums, sums / missing, atol=1e-5)
        if t == 0:
            used = index.unique()
            assert ours.codebook.any(1).nonzero().flatten().equal(used)  # all others are zero
            assert torch.allclose(ours.codebook[used[0]], flat[index == used[0]].mean(0), atol=1e-4)


def test_authors_weights(data: Pictures) -> None:
    model = begun(data, "paper").model
    for layer in (model.encoder.texture_down[4], model.decoder.structure_up):
        assert isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        assert layer.weight.abs().max() <= 2 * inputs**-0.5
        assert float(layer.weight.detach().std()) == pytest.approx(0.88 * inputs**-0.5, rel=0.05)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_a_step_with_the_authors_start_takes_the_first_batch_whole(data: Pictures) -> None:
    stage = begun(data, "paper")
    given = share(data)
    features = [stage.model.encode(given.image)[level].detach() for level in (0, 1)]
    stage.step(given)
    for quantiser, f in zip(
        (stage.model.encoder.structure_quantiser, stage.model.encoder.texture_quantiser), features, strict=True
    ):
        assert float(quantiser.sizes.sum()) == f[:, 0].numel()
