"""What the paper does not have, by choice: starts of codebooks, LeCam, guidance; each off unless asked for."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import test_processes as divided
import torch
from torch import Tensor

from manifill.checkpoint import ModelError, load_structure, load_vqvae, pack, read_header
from manifill.cli import main
from manifill.config import Preset, StructureConfig, from_dict, to_dict
from manifill.inpainter import Inpainter, find_model
from manifill.native import NativeSampler, kinds
from manifill.pictures import Pictures
from manifill.presets import PRESETS
from manifill.sampling import sample_cached, sample_in_pytorch, sample_rows
from manifill.structure import SamplingOptions, StructureGenerator, gumbel_noise, sample_naive
from manifill.train import loop
from manifill.train.data import Batches
from manifill.train.losses import lecam
from manifill.train.processes import ALONE, Processes, Share, launched
from manifill.train.settings import same_sizes
from manifill.train.structure_stage import StructureStage
from manifill.train.texture_stage import TextureStage
from manifill.train.vqvae_stage import VQVAEStage, centres, first_codebooks
from manifill.vqvae import VQVAE

TINY, CPU = PRESETS["tiny"], torch.device("cpu")


@pytest.fixture(scope="module")
def data(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def share(data: Pictures, masked: bool = False) -> Share:
    image = data.tensor(range(8))
    mask = torch.zeros(8, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    return Share(image, mask if masked else image[:, :0], 0, 8)


# the codebooks' start


def vqvae_stage(data: Pictures, start: str, revive: bool = False, processes: Processes = ALONE) -> VQVAEStage:
    torch.manual_seed(0)
    training = dataclasses.replace(TINY.vqvae, start=start, revive=revive)
    return VQVAEStage(dataclasses.replace(TINY, vqvae=training), data, CPU, torch.float32, processes=processes)


def codebooks(stage: VQVAEStage) -> list[Tensor]:
    encoder = stage.model.encoder
    return [q.codebook.clone() for q in (encoder.structure_quantiser, encoder.texture_quantiser)]


def begun(data: Pictures, start: str, revive: bool = False, processes: Processes = ALONE) -> VQVAEStage:
    stage = vqvae_stage(data, start, revive, processes)
    if stage.begin != "random":
        torch.manual_seed(5)
        stage._start_from_data(share(data))
    return stage


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
    assert first_codebooks(on(TINY.vqvae, start="random")) == "random"
    assert first_codebooks(on(Preset().vqvae, start="kmeans")) == "kmeans"


def test_kmeans_lies_nearer_to_the_data_and_uses_more_codes(data: Pictures) -> None:
    stages = {start: begun(data, start) for start in ("random", "data", "kmeans")}
    image = share(data).image
    random, first, means = ([*far(s, image)] for s in stages.values())
    assert means[0] < first[0] < random[0]
    assert means[1] < random[1]  # the texture features depend on the structure's codebook: no order with "data"
    used = {k: [len(c.unique()) for c in s.model.encode(image)[4:]] for k, s in stages.items()}
    assert all(a > 2 * b for a, b in zip(used["kmeans"], used["random"], strict=True))


def test_kmeans_stays_ahead_in_codes_used_after_training(data: Pictures) -> None:
    used = {}
    for start in ("random", "kmeans"):
        stage, batches = vqvae_stage(data, start), Batches(data, 4, seed=3, flip=False)
        for step in range(12):
            torch.manual_seed(step)
            stage.step(loop._fetch(batches, (), CPU, step))
        used[start] = stage.validate()["structure_codes_used"]
    assert used["kmeans"] > used["random"]


def test_start_is_a_function_of_the_seed_however_the_batch_is_divided(data: Pictures) -> None:
    wanted = codebooks(begun(data, "kmeans"))
    assert all(map(torch.equal, codebooks(begun(data, "kmeans")), wanted))
    divided = codebooks(begun(data, "kmeans", processes=Processes(accumulate=4)))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(divided, wanted, strict=True))
    data_start = codebooks(begun(data, "auto", revive=True))
    assert all(map(torch.equal, codebooks(begun(data, "data")), data_start))
    assert not torch.equal(data_start[0], wanted[0])


def test_centres_keep_what_has_no_rows() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 2.0], [10.0, 10.0]])
    found = centres(rows, torch.tensor([[0.0, 1.5], [9.0, 9.0], [-50.0, 0.0]]))
    assert torch.equal(found, torch.tensor([[0.0, 1.0], [10.0, 10.0], [-50.0, 0.0]]))


def test_given_weights_keep_their_codebooks(data: Pictures) -> None:
    training = dataclasses.replace(TINY.vqvae, start="kmeans")
    preset = dataclasses.replace(TINY, vqvae=training)
    assert VQVAEStage(preset, data, CPU, torch.float32, start=VQVAE(TINY.model.vqvae)).begin == "random"


# LeCam


def texture_stage(data: Pictures, weight: float, processes: Processes = ALONE) -> TextureStage:
    torch.manual_seed(0)
    vqvae = VQVAE(TINY.model.vqvae).eval().requires_grad_(False)
    training = dataclasses.replace(TINY.texture, lecam_weight=weight, steps=6)
    return TextureStage(dataclasses.replace(TINY, texture=training), vqvae, data, CPU, torch.float32,
                        processes=processes)  # fmt: skip


def test_lecam_is_the_published_formula() -> None:
    real, composed = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    a_real, a_composed = 0.4, -0.7
    wanted = ((real - a_composed) ** 2).mean() + ((composed - a_real) ** 2).mean()
    assert torch.allclose(lecam(real, composed, torch.tensor([a_real, a_composed])), wanted)
    assert lecam(torch.full((2, 2), -0.7), torch.full((2, 2), 0.4), torch.tensor([a_real, a_composed])) == 0


def texture_run(data: Pictures, out: Path, *stops: int) -> dict[str, dict]:
    """Train six steps, stopped and resumed on the way; return the checkpoint's networks."""
    for steps in (*stops, 6):
        stage, batches = texture_stage(data, 0.3), Batches(data, 4, seed=3, flip=False)
        loop.run(stage, batches, out, steps, 0, 2, 6, 2, quiet=True)
    return torch.load(out / "texture" / "checkpoint.pt", weights_only=True)["state"]


def test_averages_survive_resuming_bit_for_bit(data: Pictures, tmp_path: Path) -> None:
    whole, resumed = texture_run(data, tmp_path / "a"), texture_run(data, tmp_path / "b", 2, 4)
    assert (whole["anchors"]["means"] != 0).all()
    for part in ("anchors", "model", "discriminator"):
        assert all(torch.equal(v, resumed[part][k]) for k, v in whole[part].items()), part


def texture_steps(
    data: Pictures, weight: float, processes: Processes = ALONE, rate: float = 1e-3, eps: float = 1e-3, steps: int = 3
) -> TextureStage:  # fmt: skip
    stage = texture_stage(data, weight, processes)
    for optimiser in (stage.optimiser, stage.opponent):
        optimiser.param_groups[0]["eps"] = eps  # else Adam makes whole steps of gradients that are rounding alone
    stage.opponent.param_groups[0]["lr"] = rate
    for step in range(steps):
        torch.manual_seed(step)
        stage.figures = stage.step(share(data, masked=True))  # type: ignore[attr-defined]
    return stage


def test_two_shares_make_the_averages_of_one(data: Pictures) -> None:
    one, two = texture_steps(data, 0.3), texture_steps(data, 0.3, Processes(accumulate=2))
    assert torch.allclose(one.anchors.means, two.anchors.means, rtol=1e-4)
    assert len(two.figures) == 2  # type: ignore[attr-defined]
    for a, b in zip(one.discriminator.parameters(), two.discriminator.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_lecam_draws_the_scores_together_and_off_is_not_there(data: Pictures) -> None:
    apart = []
    for weight in (0.0, 30.0):
        stage = texture_steps(data, weight, rate=0.01, eps=1e-8, steps=10)
        scores = stage.figures[0]  # type: ignore[attr-defined]
        apart.append(abs(float(scores["d_real"] - scores["d_composed"])))
        assert ("lecam" in scores) == ("anchors" in stage.state) == (weight > 0)
    assert apart[1] < apart[0]


# guidance

LARGE = dataclasses.replace(TINY.model.structure, codebook_size=24, unconditional=True)
GUIDED = SamplingOptions(0.9, 12, 0.95, guidance=1.5)


def given(pictures: int = 1, n: int = 4, side: int = 6) -> tuple[StructureGenerator, Tensor, Tensor, Tensor]:
    model = StructureGenerator(LARGE).eval().requires_grad_(False)
    for p in model.parameters():
        p.mul_(1.5)
    cond = 2 * torch.randn(pictures, 8 * LARGE.condition_width, side, side)
    return model, torch.randn(24, LARGE.codebook_dim), cond, gumbel_noise(range(n), side**2, 24)


@pytest.mark.parametrize("pictures", [1, 4])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("sample", [sample_cached, sample_rows, sample_in_pytorch])
def test_samplers_agree_about_guidance(sample, pictures: int, n: int) -> None:
    model, codebook, cond, noise = given(min(pictures, n), n)
    known = torch.full((1, 6, 6), -1)
    known[:, 0, :4], known[:, 3] = 7, 5
    for clamped in (None, known):
        wanted = sample_naive(model, codebook, cond, noise, GUIDED, known=clamped)
        found = sample(model, codebook, cond, noise, GUIDED, known=clamped)
        assert torch.equal(found.codes, wanted.codes)
        assert torch.allclose(found.log_likelihood, wanted.log_likelihood, atol=1e-3)


def test_guidance_moves_logits_away_from_those_without_condition() -> None:
    model, codebook, cond, noise = given()
    plain = sample_naive(model, codebook, cond, noise, SamplingOptions())
    steered = sample_naive(model, codebook, cond, noise, SamplingOptions(guidance=2.0))
    assert (plain.codes != steered.codes).float().mean() > 0.2
    structure = codebook[steered.codes].permute(0, 3, 1, 2)
    logits, free = model.logits(structure, cond), model.logits(structure, torch.zeros_like(cond))
    by_hand = (3 * logits - 2 * free).flatten(2).transpose(1, 2) + noise
    assert (by_hand.argmax(2).view_as(steered.codes) == steered.codes).float().mean() > 0.99
    likelihood = logits.log_softmax(1).gather(1, steered.codes[:, None])[:, 0]
    assert torch.allclose(steered.log_likelihood, likelihood, atol=1e-4)  # the conditional model's, without guidance


def test_without_guidance_nothing_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model, codebook, cond, noise = given()
    rows, logits = [], model.logits
    monkeypatch.setattr(model, "logits", lambda *a: rows.append(1) or logits(*a))
    wanted = sample_naive(model, codebook, cond, noise, SamplingOptions(guidance=0.0))
    assert len(rows) == 36
    assert torch.equal(sample_cached(model, codebook, cond, noise, SamplingOptions()).codes, wanted.codes)


def test_a_model_without_condition_dropout_refuses(inpainter: Inpainter, face: np.ndarray, tmp_path: Path) -> None:
    words = "guidance is 1.0; expected 0, this model was not trained with condition dropout"
    with pytest.raises(ValueError, match=words):
        inpainter(face, np.arange(128 * 128).reshape(128, 128) < 4000, guidance=1.0)
    with pytest.raises(ValueError, match=words):
        StructureConfig(guidance=1.0)
    with pytest.raises(ValueError, match=r"guidance is -1; expected 0 \(off\) or more"):
        SamplingOptions(guidance=-1)
    if kinds():
        model, codebook, cond, noise = given()
        with pytest.raises(ValueError, match="the native sampler draws without"):
            NativeSampler(model, codebook)(cond, noise, GUIDED)


@pytest.fixture(scope="module")
def free_model(reference_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model, which says of itself that it can draw without condition."""
    out = tmp_path_factory.mktemp("free") / "model"
    pack(reference_model, out, False, {"unconditional": True})
    return out


def test_completions_with_guidance(free_model: Path, photo_and_mask: tuple[Path, Path]) -> None:
    model = Inpainter.from_pretrained(free_model, "cpu")
    codes = [[c.codes for c in model(*photo_and_mask, num_samples=3, seed=0, guidance=g)] for g in (None, 0.0, 2.0)]
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    model.structure.config = dataclasses.replace(model.structure.config, guidance=2.0)
    own = [c.codes for c in model(*photo_and_mask, num_samples=3, seed=0)]
    assert np.array_equal(own, codes[2])


def test_the_command_line(
    free_model: Path, reference_model: Path, photo_and_mask: tuple[Path, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    def inpaint(model: Path, out: str) -> int:
        words = ["-n", "1", "-o", tmp_path / out, "--seed", "0", "--model", model, "--guidance", "2", "--device", "cpu"]
        monkeypatch.setattr("sys.argv", ["manifill", "inpaint", *map(str, [*photo_and_mask, *words])])
        return main()

    assert inpaint(free_model, "a") == 0
    assert inpaint(reference_model, "b") == 2
    assert "was not trained with condition dropout" in capsys.readouterr().err


def test_going_on_from_a_completion_with_guidance(
    free_model: Path, photo_and_mask: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Inpainter.from_pretrained(free_model, "cpu")
    completion = next(iter(model(*photo_and_mask, num_samples=1, seed=0, guidance=2.0)))
    (again,) = model.near(completion, 0.0, num_samples=1, seed=3)
    assert np.array_equal(again.codes, completion.codes)

    words = ["-n", "1", "--model", free_model, "--device", "cpu", "-o"]
    for more in ([tmp_path / "a", "--seed", "0", "--guidance", "2"],
                 [tmp_path / "b", "--near", tmp_path / "a" / "face_000.png", "--amount", "0"]):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["manifill", "inpaint", *map(str, [*photo_and_mask, *words, *more])])
        assert main() == 0
    lines = [json.loads((tmp_path / k / "manifest.jsonl").read_text()) for k in "ab"]
    assert lines[0]["codes"] == lines[1]["codes"] == completion.codes.tolist()
    assert lines[0]["guidance"] == lines[1]["guidance"] == 2.0


# condition dropout


def structure_stage(data: Pictures, dropout: float, processes: Processes = ALONE) -> StructureStage:
    torch.manual_seed(0)
    vqvae = VQVAE(TINY.model.vqvae).eval().requires_grad_(False)
    preset = dataclasses.replace(TINY, structure=dataclasses.replace(TINY.structure, condition_dropout=dropout))
    return StructureStage(preset, vqvae, data, CPU, torch.float32, processes=processes)


def test_condition_dropout_is_in_the_header(data: Pictures, tmp_path: Path) -> None:
    for dropout in (0.0, 0.25):
        stage = structure_stage(data, dropout)
        stage.export(tmp_path, 1, {"bits_hole": 1.0}, last=True)
        found = read_header(tmp_path, "structure").config
        assert (found["unconditional"], found["guidance"]) == (dropout > 0, 0.0)


def test_without_condition_the_photo_does_not_matter(data: Pictures) -> None:
    stage, own = structure_stage(data, 0.5), share(data, masked=True)
    stage.model.eval()
    with torch.no_grad():
        codes, _ = stage.given(own.image, own.mask)
        structure = stage.vqvae.lookup(codes)
        free, other = (stage.network(structure, x, own.mask, None, torch.zeros(8)) for x in (own.image, own.image * -1))
        assert torch.equal(free, other)
        assert torch.equal(free, stage.model.logits(structure, torch.zeros(1, 32, 8, 8)))
        kept = stage.network(structure, own.image, own.mask, None, torch.ones(8))
        assert torch.equal(kept, stage.network(structure, own.image, own.mask, None))


def test_two_shares_drop_the_same_conditions(data: Pictures) -> None:
    found = []
    for processes in (ALONE, Processes(accumulate=2)):
        stage = structure_stage(data, 0.5, processes)
        stage.optimiser.param_groups[0]["eps"] = 1.0
        torch.manual_seed(1)
        figures = processes.means([stage.step(share(data, masked=True))])
        found.append((figures, [p.detach().clone() for p in stage.model.parameters()]))
    (first, ours), (second, theirs) = found
    assert first == pytest.approx(second, rel=1e-4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


# several processes

ALL_ON = dataclasses.replace(
    TINY,
    vqvae=dataclasses.replace(TINY.vqvae, start="kmeans", steps=100),
    structure=dataclasses.replace(TINY.structure, condition_dropout=0.5, clip=2.5),
    texture=dataclasses.replace(TINY.texture, lecam_weight=0.3, adversarial_share=0.5),
)


def test_two_processes_reach_the_weights_of_one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided.torchrun(__file__, pictures, tmp_path)
    monkeypatch.setattr(divided, "TINY", ALL_ON)
    first, second = (torch.load(tmp_path / f"{k}.pt") for k in range(2))
    for name in divided.STAGES:
        divided.compare(first[name], divided.advance(name, pictures))
        assert all(torch.equal(v, second[name]["weights"][k]) for k, v in first[name]["weights"].items())
    assert first["texture"]["figures"]["lecam"] > 0


# models from before


@pytest.mark.parametrize("name", ["reference", "faces-128"])
def test_old_headers_load(name: str, reference_model: Path) -> None:
    folder = reference_model if name == "reference" else find_model(name)
    header = read_header(folder, "structure")
    model, _ = load_structure(folder, load_vqvae(folder)[1].codebook)
    assert (model.config.guidance, model.config.unconditional) == (0.0, False)
    assert same_sizes(model, header, model.config) is model
    with pytest.raises(ModelError, match="layers"):
        same_sizes(model, header, dataclasses.replace(model.config, layers=99))


def test_headers_are_read_strictly_but_for_younger_fields() -> None:
    values = to_dict(TINY.model.structure)
    old = {k: v for k, v in values.items() if k not in ("guidance", "unconditional")}
    assert from_dict(StructureConfig, old) == from_dict(StructureConfig, values) == TINY.model.structure
    for wrong in ({**old, "foreign": 1}, {k: v for k, v in old.items() if k != "layers"}):
        with pytest.raises(ValueError, match="missing fields"):
            from_dict(StructureConfig, wrong)
    with pytest.raises(ValueError, match="was not trained with condition dropout"):
        from_dict(StructureConfig, {**old, "guidance": 1.0})


if __name__ == "__main__":  # one of the processes that torchrun starts
    divided.TINY = ALL_ON
    with launched() as these:
        everything = {name: divided.advance(name, Path(sys.argv[1]), these) for name in divided.STAGES}
        torch.save(everything, Path(sys.argv[2]) / f"{these.index}.pt")
