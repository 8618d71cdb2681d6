"""Where the first codebooks come from: random numbers or features of the first batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.data.pictures import Pictures
from manifill.networks.vqvae import VQVAE
from manifill.train.config import Preset
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.presets import PRESETS
from manifill.train.vqvae import VQVAEStage, first_codebooks

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
    stage = VQVAEStage(dataclasses.replace(TINY, vqvae=training), data, CPU, torch.float32, processes=processes)
    if stage.begin != "random":
        torch.manual_seed(5)
        stage._start_from_data(share(data))
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
    assert first_codebooks(Preset().vqvae) == "random"
    assert first_codebooks(on(TINY.vqvae, codebook_init="random")) == "random"
    assert first_codebooks(on(Preset().vqvae, codebook_init="data")) == "data"


def test_codebooks_from_data_lie_nearer_to_it_and_use_more_codes(data: Pictures) -> None:
    stages = [begun(data, start) for start in ("random", "data")]
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
    assert VQVAEStage(preset, data, CPU, torch.float32, start=VQVAE(TINY.model.vqvae)).begin == "random"
