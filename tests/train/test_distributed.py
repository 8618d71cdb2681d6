"""A batch divided over processes, and in each into shares: the weights and figures of one process, to rounding."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from manifill.data.batches import Batches
from manifill.data.pictures import Pictures
from manifill.networks.checkpoint import model_hash
from manifill.networks.vqvae import VQVAE
from manifill.train import loop
from manifill.train.codebooks import REVIVE_EVERY
from manifill.train.config import RunOptions
from manifill.train.distributed import ALONE, Processes, Share, launch
from manifill.train.dropout import Dropout
from manifill.train.presets import PRESETS
from manifill.train.run import train
from manifill.train.structure import StructureStage
from manifill.train.texture import TextureStage
from manifill.train.vqvae import VQVAEStage

TINY = dataclasses.replace(
    PRESETS["tiny"],
    vqvae=dataclasses.replace(PRESETS["tiny"].vqvae, steps=100),
    structure=dataclasses.replace(PRESETS["tiny"].structure, clip=2.5),  # clips these gradients, but not half of them
    texture=dataclasses.replace(PRESETS["tiny"].texture, adversarial_ratio=0.5),
)
STAGES = ("vqvae", "structure", "texture")
STEPS = 4
CPU = torch.device("cpu")


def fresh(name: str, data: Pictures, processes: Processes, precision: torch.dtype):
    """A stage with the weights of seed 0."""
    torch.manual_seed(0)
    vqvae = VQVAE(TINY.model.vqvae).eval().requires_grad_(False)
    setup = loop.Setup(TINY, data, CPU, precision, processes)
    if name == "vqvae":
        return VQVAEStage(setup)
    return (StructureStage if name == "structure" else TextureStage)(setup, vqvae)


def weights(stage) -> dict[str, Tensor]:
    """All weights and buffers of a stage."""
    parts = [(k, part) for k, part in stage.state.items() if k in ("model", "averaged", "discriminator")]
    return {f"{k}.{name}": v.clone() for k, part in parts for name, v in part.state_dict().items()}


def advance(
    name: str, pictures: Path, processes: Processes = ALONE, precision: torch.dtype = torch.float32, steps: int = STEPS
) -> dict[str, dict]:
    """Take steps of a stage; the VQ-VAE takes its codebooks from data in the first, revives codes in the third."""
    data = Pictures([pictures], 64, quiet=True)
    stage = fresh(name, data, processes, precision)
    batches = Batches(data, 4, seed=3, flip=True, part=(processes.index, processes.count))
    for optimiser, _ in stage.rates:
        # else Adam makes whole steps of gradients that are rounding alone, and hides a wrong scale
        optimiser.param_groups[0]["eps"] = 1.0 if name == "structure" else 1e-3
    start, records = weights(stage), []
    for step in range(steps):
        if name == "vqvae" and step == 2:
            stage.averaged.n_averaged.fill_(REVIVE_EVERY - 1)
            stage.model.encoder.structure_quantiser.sizes[:5] = 0
        torch.manual_seed(step)
        records.append(stage.step(loop.own_share(batches, stage.masks, CPU, step)))
    return {"start": start, "weights": weights(stage), "figures": processes.means(records)}


def compare(found: dict[str, dict], wanted: dict[str, dict]) -> None:
    """Training moved every tensor; where to, two ways to divide the batch disagree about by a small part of the way."""
    assert found["figures"] == pytest.approx(wanted["figures"], rel=2e-5)
    for key, start in wanted["start"].items():
        a, b = (x["weights"][key].double() for x in (found, wanted))
        moved = (b - start).norm()
        assert (a - b).norm() <= 1e-3 * moved + 1e-6, key


def torchrun(*words: object) -> str:
    """Start two processes; return what they printed."""
    pytest.importorskip("accelerate")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, words)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def alone(pictures: Path) -> dict[str, dict]:
    """What one process makes of whole batches."""
    return {name: advance(name, pictures) for name in STAGES}


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_processes_reach_the_weights_of_one(
    alone: dict[str, dict], pictures: Path, tmp_path: Path, accumulate: int
) -> None:
    torchrun(__file__, pictures, tmp_path, accumulate)
    first, second = (torch.load(tmp_path / f"{k}.pt") for k in range(2))
    for name in STAGES:
        compare(first[name], alone[name])
        ours, theirs = first[name]["weights"], second[name]["weights"]
        assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []  # codebooks and power iterations too
        assert first[name]["figures"] == second[name]["figures"]
    assert first["agree"] == second["agree"] == [True, False]


@pytest.mark.parametrize("name", STAGES)
def test_shares_one_after_another_reach_the_weights_of_a_whole_batch(
    alone: dict[str, dict], pictures: Path, name: str
) -> None:
    compare(advance(name, pictures, Processes(accumulate=4)), alone[name])


def test_only_the_first_process_writes(pictures: Path, tmp_path: Path) -> None:
    """The command line from end to end: each line once, the figures of one process, and one process can go on."""
    words = [
        "--preset",
        "tiny",
        "--force",
        "--quiet",
        "--data",
        pictures,
        "--precision",
        "fp32",
        "--steps",
        "4",
        "--sampled-codes",
        "0.5",
        "--log-every",
        "1",
        "--validate-every",
        "2",
        "--checkpoint-every",
        "2",
    ]
    printed = torchrun("-m", "manifill", "train", "all", "--out", tmp_path / "two", *words)
    assert printed.count("pictures to train on") == printed.count("vqvae step 4") == 1
    options = RunOptions(
        quiet=True,
        force=True,
        precision="fp32",
        steps=4,
        sampled_codes=0.5,
        log_every=1,
        validate_every=2,
        checkpoint_every=2,
    )
    train(STAGES, [pictures], tmp_path / "one", "tiny", options)
    for name in STAGES:
        logs = [(tmp_path / n / name / "metrics.jsonl").read_text().splitlines() for n in ("one", "two")]
        found, wanted = ([json.loads(line) for line in log] for log in logs)
        for line in found + wanted:
            line.pop("pictures_per_s", None)
        assert len(found) == 6
        assert found[0] == pytest.approx(wanted[0], rel=1e-4 if name == "vqvae" else 0.2)  # a code or two may differ
    before = model_hash(tmp_path / "two" / "model")
    train(STAGES, [pictures], tmp_path / "two", "tiny", options)
    assert model_hash(tmp_path / "two" / "model") == before
    assert not list(tmp_path.rglob("*.part"))


def test_figures_are_those_of_the_whole_batch() -> None:
    ratio = [[{"a": torch.tensor([1.0, 4.0])}, {"a": torch.tensor([3.0, 1.0])}]]
    assert Processes(accumulate=2).means(ratio) == {"a": pytest.approx(4 / 5)}
    mean = [[{"a": torch.tensor(1.0)}], [{"a": torch.tensor(4.0, dtype=torch.bfloat16)}]]
    assert ALONE.means(mean) == {"a": 2.5}
    assert ALONE.means([[{"a": torch.tensor([0.0, 0.0])}]]) == {"a": 0.0}  # no hole, no codes in it


def test_dropout_takes_its_part_of_the_noise_of_the_whole_batch() -> None:
    x, dropout = torch.ones(6, 3, 4, 4), Dropout(0.3)
    parts = []
    for start in (0, 2, 4):
        torch.manual_seed(5)
        dropout.start, dropout.whole = start, 6
        parts.append(dropout(x[start : start + 2]))
    torch.manual_seed(5)
    assert torch.equal(torch.cat(parts), torch.nn.functional.dropout(x, 0.3))
    assert torch.equal(dropout.eval()(x), x)


def test_shares_cover_a_batch_in_order() -> None:
    image, mask = torch.arange(12.0).view(12, 1, 1, 1), torch.arange(12.0).view(12, 1, 1, 1)
    shares = [s for own in Share(image, mask, 0, 12).split(2) for s in own.split(3)]
    assert torch.equal(torch.cat([s.image for s in shares]), image)
    assert all(torch.equal(s.rows(mask), s.mask) for s in shares)


def test_a_batch_that_cannot_be_divided(pictures: Path, tmp_path: Path) -> None:
    words = "a batch of 4 pictures cannot be divided evenly over 1 processes, 3 shares each"
    with pytest.raises(ValueError, match=words):
        train(("vqvae",), [pictures], tmp_path / "run", "tiny", RunOptions(quiet=True, accumulate=3))
    assert not (tmp_path / "run").exists()


def test_several_processes_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"pip install 'manifill\[train\]'"), launch():
        pass


SLOWEST = pytest.param(torch.float16, STEPS, marks=pytest.mark.slow)  # which processors compute slowly


@pytest.mark.parametrize(("precision", "steps"), [(torch.bfloat16, STEPS), (torch.float16, 2), SLOWEST])
def test_half_precision_follows_single_precision(pictures: Path, precision: torch.dtype, steps: int) -> None:
    for name in STAGES:
        found, wanted = (advance(name, pictures, precision=p, steps=steps) for p in (precision, torch.float32))
        assert found["figures"] == pytest.approx(wanted["figures"], rel=0.2, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_compiled_networks_train_the_same(alone: dict[str, dict], pictures: Path, tmp_path: Path, name: str) -> None:
    code = (
        "import sys, torch; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_distributed as t;"
        "torch.save(t.advance(sys.argv[2], Path(sys.argv[3]), t.Processes(None, 1, True)), sys.argv[4])"
    )
    words = [Path(__file__).parent, name, pictures, tmp_path / "compiled.pt"]
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True)
    assert torch.load(tmp_path / "compiled.pt")["figures"] == pytest.approx(alone[name]["figures"], rel=1e-3)


if __name__ == "__main__":  # one of the processes that torchrun starts
    with launch(int(sys.argv[3])) as these:
        everything = {name: advance(name, Path(sys.argv[1]), these) for name in STAGES}
        everything["agree"] = [these.agree(7), these.agree(these.index)]  # type: ignore[assignment]
        torch.save(everything, Path(sys.argv[2]) / f"{these.index}.pt")
