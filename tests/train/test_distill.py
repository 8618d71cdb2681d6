"""A structure generator taught by itself and a weaker one: what the teacher says, and that the pupil learns it."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.cli import main
from manifill.config import SamplingOptions
from manifill.data.pictures import Pictures
from manifill.networks.structure import StructureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.train.config import RunOptions, StructureTraining
from manifill.train.distill import PLAUSIBLE, SAMPLED, TaughtStage, Teacher, divergence
from manifill.train.distributed import ALONE, Processes, Share
from manifill.train.loop import Setup
from manifill.train.presets import PRESETS
from manifill.train.sampled_codes import resample

TINY, CPU = PRESETS["tiny"], torch.device("cpu")
TAUGHT = dataclasses.replace(TINY, structure=dataclasses.replace(TINY.structure, autoguidance=1.0))


@pytest.fixture(scope="module")
def data(pictures: Path) -> Pictures:
    return Pictures([pictures], 64, quiet=True)


def batch(data: Pictures) -> Share:
    mask = torch.zeros(8, 1, 64, 64)
    mask[:, :, 24:48, 16:40] = 1
    return Share(data.tensor(range(8)), mask, 0, 8)


def generators(**settings: float) -> tuple[VQVAE, StructureGenerator, StructureGenerator]:
    torch.manual_seed(0)
    vqvae = VQVAE(TINY.model.vqvae).eval().requires_grad_(False)
    config = dataclasses.replace(TINY.model.structure, **settings)
    return vqvae, StructureGenerator(config), StructureGenerator(dataclasses.replace(config, layers=2))


def stage(data: Pictures, processes: Processes = ALONE, **settings: float) -> TaughtStage:
    vqvae, strong, weak = generators(**settings)
    found = TaughtStage(Setup(TAUGHT, data, processes=processes), vqvae, strong, weak)
    found.optimiser.param_groups[0]["lr"] = 3e-3
    return found


def test_divergence_is_that_of_distributions() -> None:
    wanted, found = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3)
    both = (torch.distributions.Categorical(logits=x.movedim(1, -1)) for x in (wanted, found))
    assert torch.allclose(divergence(wanted, found), torch.distributions.kl_divergence(*both), atol=1e-5)
    assert torch.allclose(divergence(wanted, wanted + 3), torch.zeros(2, 3, 3), atol=1e-5)
    wanted[:, :4] = -torch.inf
    assert torch.allclose(divergence(wanted, found), -found.log_softmax(1)[:, 4], atol=1e-5)


def test_the_teacher_goes_on_from_the_weaker_one(data: Pictures) -> None:
    vqvae, strong, weak = generators()
    share, both = batch(data), (strong.eval(), weak.eval())
    for m in both:
        m.pixelcnn.logits.weight.data *= 30  # far from the uniform guess, where all codes are plausible
    guide = Teacher(strong, weak, vqvae, CPU, 0.5)
    structure = vqvae.encode(share.image).structure
    with torch.no_grad():
        a, b = (m.logits(structure, m.condition(share.image, share.mask)) for m in both)
    found = guide.logits(structure, share.image, share.mask, None)
    plausible = a >= a.amax(1, keepdim=True) + math.log(PLAUSIBLE)
    assert torch.allclose(found[plausible], (a + 0.5 * (a - b))[plausible], atol=1e-5)
    assert torch.isneginf(found[~plausible]).all()
    assert 0 < plausible.float().mean() < 1


def test_lessons_are_true_codes_and_drawn_ones(data: Pictures) -> None:
    """Half of the pictures have drawn codes, and only where the hole reaches; settings of the model play no part."""
    plain, cold, share = stage(data), stage(data, temperature=0.01, top_p=0.5), batch(data)
    assert cold.teacher.sampler.options == SamplingOptions()
    truth, _ = plain.given(share.image, share.mask)
    lessons = []
    for found in (plain, cold):
        torch.manual_seed(5)
        lessons.append(resample(truth, truth, share, SAMPLED, found.teacher.sampler)[0])
    assert torch.equal(*lessons)
    changed = (lessons[0] != truth).flatten(1).any(1)
    assert 0 < changed.sum() < 8


def test_it_learns_and_its_teachers_stay(data: Pictures) -> None:
    found, share = stage(data), batch(data)
    before = copy.deepcopy([m.state_dict() for m in (found.teacher.strong, found.teacher.weak)])
    figures: list[dict[str, Tensor]] = []
    for step in range(60):
        torch.manual_seed(step)
        figures += found.step(share)
    first, last = (float(sum(f["taught"][0] / f["taught"][1] for f in part)) for part in (figures[:5], figures[-5:]))
    assert last < first / 2
    after = [m.state_dict() for m in (found.teacher.strong, found.teacher.weak)]
    assert all(torch.equal(v, new[k]) for old, new in zip(before, after, strict=True) for k, v in old.items())
    assert found.dropouts
    assert all(dropout.p == 0 for dropout in found.dropouts)  # what it is taught has no noise


def test_rows_read_from_right_to_left_are_taught_so(data: Pictures) -> None:
    found, share, backwards = stage(data, both_directions=True), batch(data), torch.ones(8, dtype=torch.bool)
    nats = []
    for which in (None, backwards):
        torch.manual_seed(1)  # of the lesson
        nats.append(found.nats(share, which).detach())
    assert not torch.allclose(*nats, atol=1e-4)
    found.teacher.weight = 0.0  # the teacher is then what is taught, in either order
    assert all(float(found.nats(share, which).detach().abs().max()) < 1e-4 for which in (None, backwards))
    vqvae, strong, weak = generators(both_directions=True)
    one = StructureGenerator(dataclasses.replace(weak.config, both_directions=False))
    with pytest.raises(ValueError, match="left to right alone"):
        TaughtStage(Setup(TAUGHT, data), vqvae, strong, one)


def test_two_shares_are_taught_as_one(data: Pictures) -> None:
    found = []
    for processes in (ALONE, Processes(accumulate=2)):
        one = stage(data, processes)
        one.optimiser.param_groups[0]["eps"] = 1.0
        torch.manual_seed(1)
        figures = processes.means([one.step(batch(data))])
        found.append((figures, [p.detach().clone() for p in one.model.parameters()]))
    (first, ours), (second, theirs) = found
    assert first == pytest.approx(second, rel=1e-3, abs=1e-3)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_held_out_pictures_choose_what_is_kept(data: Pictures, tmp_path: Path) -> None:
    found = stage(data)
    figures = found.validate()
    assert figures == found.validate()  # the same codes are drawn each time
    share = batch(data)
    codes, _ = found.given(share.image, share.mask)
    lost = found.lost(found.model.eval(), codes, share.image, share.mask, None)
    assert lost.shape == (8, 8, 8)
    assert figures["taught"] > 0
    path = tmp_path / "structure.safetensors"
    found.export(tmp_path, 1, figures | {"taught": 0.5, "bits_hole": 9.0}, last=False)
    kept = path.read_bytes()
    found.export(tmp_path, 2, figures | {"taught": 0.6, "bits_hole": 1.0}, last=True)
    assert path.read_bytes() == kept
    found.export(tmp_path, 3, figures | {"taught": 0.4, "bits_hole": 9.0}, last=True)
    assert path.read_bytes() != kept


def test_what_it_cannot_do_is_refused(data: Pictures) -> None:
    model = Path("model")
    with pytest.raises(ValueError, match="--init-from"):
        RunOptions(autoguidance=1, weaker=model)
    with pytest.raises(ValueError, match="--weaker"):
        RunOptions(autoguidance=1, init_from=model)
    with pytest.raises(ValueError, match="--autoguidance"):
        RunOptions(weaker=model, init_from=model)
    vqvae, strong, _ = generators()
    fed = StructureGenerator(dataclasses.replace(TINY.model.structure, condition_features=True))
    with pytest.raises(ValueError, match="condition_features"):
        TaughtStage(Setup(TAUGHT, data), vqvae, strong, fed)
    with pytest.raises(ValueError, match="autoguidance is -1"):
        StructureTraining(autoguidance=-1)


@pytest.mark.filterwarnings("ignore")  # of what a model of two steps cannot do
def test_the_command_resumes_to_the_same_weights(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(stage: str, out: str, steps: int, *more: str) -> int:
        options = ["--preset", "tiny", "--steps", str(steps), "--validate-every", "2", "--checkpoint-every", "2"]
        words = ["train", stage, "--data", str(pictures), "--out", str(tmp_path / out), *options, "--force", "--quiet"]
        monkeypatch.setattr("sys.argv", ["manifill", *words, *more])
        return main()

    def weights(out: str) -> dict[str, Tensor]:
        path = tmp_path / out / "structure" / "checkpoint.pt"
        return torch.load(path, weights_only=True)["state"]["model"]

    assert run("vqvae", "first", 2) == 0
    assert run("structure", "first", 4) == 0
    start = ("--init-from", str(tmp_path / "first" / "model"))
    assert run("structure", "weak", 2, *start, "--learning-rate", "1e-2", "--seed", "3") == 0
    capsys.readouterr()
    assert run("structure", "alone", 4, *start, "--autoguidance", "1") == 2
    assert "--weaker" in capsys.readouterr().err
    more = (*start, "--weaker", str(tmp_path / "weak" / "model"), "--autoguidance", "0.7", "--learning-rate", "1e-3")
    assert run("structure", "whole", 4, *more) == 0
    assert run("structure", "parts", 2, *more) == 0
    assert run("structure", "parts", 4, *more) == 0
    whole, parts = weights("whole"), weights("parts")
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
    lines = [json.loads(x) for x in (tmp_path / "whole" / "structure" / "metrics.jsonl").read_text().splitlines()]
    assert {"val_taught", "val_bits_hole"} <= lines[-1].keys()
    card = (tmp_path / "whole" / "model" / "README.md").read_text()
    assert "--autoguidance 0.7" in card
    assert "--weaker WEIGHTS-" in card
    assert run("structure", "whole", 4, *start, "--weaker", str(tmp_path / "first" / "model"), *more[4:]) == 2
    assert "weaker" in capsys.readouterr().err
