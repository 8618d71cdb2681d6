"""Damaged and foreign files in a run's folder: a refusal that names the file, or the weights of an unharmed run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from manifill import cli
from manifill.data.sources import DataError
from manifill.networks.atomic import remove_stray, write_atomic
from manifill.networks.checkpoint import NETWORKS, ModelError, model_hash
from manifill.train import loop, resume
from manifill.train.config import RunOptions
from manifill.train.run import train

VALUES = {"quiet": True, "force": True, "log_every": 2, "validate_every": 6, "checkpoint_every": 3}
FIRST, LONGER = RunOptions(**VALUES, steps=3), RunOptions(**VALUES, steps=6)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE's run of three steps."""
    out = tmp_path_factory.mktemp("trained")
    train(("vqvae",), [pictures], out, "tiny", FIRST)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_flipped_bits_in_a_checkpoint(run: Path, pictures: Path) -> None:
    """Row 26: one bit at 30 %, 50 % and 70 % of the file; and at its head, in its middle and its tail."""
    path = run / "vqvae" / "checkpoint.pt"
    whole = path.read_bytes()
    places = [len(whole) * share // 100 for share in (30, 50, 70)]
    for place in (*places, 30, len(whole) // 2 + 1, len(whole) - 40):
        data = bytearray(whole)
        data[place] ^= 16
        path.write_bytes(data)
        stage = Nothing()
        with pytest.raises(DataError, match=rf"{path}: .*; remove it to begin this stage anew"):
            resume.load_checkpoint({"model": stage}, path)
        assert not stage.loaded
    with pytest.raises(DataError, match=str(path)):
        train(("vqvae",), [pictures], run, "tiny", LONGER)
    path.write_bytes(whole)
    train(("vqvae",), [pictures], run, "tiny", LONGER)
    assert resume.load_checkpoint({}, run / "vqvae" / "nothing.pt") == (0, {})


class Nothing:
    """A part of a stage that takes whatever it is given."""

    loaded = False

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict, /) -> None:
        self.loaded = True


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"a": 1}, "not a checkpoint of this program"),
        ([1, 2], "not a checkpoint of this program"),
        ({"step": "3", "figures": {}, "state": {}}, "not a checkpoint of this program"),
        ({"step": 3, "figures": {}, "state": {"other": {}}}, "holds other; expected .*, so it is not of this stage"),
    ],
)
def test_foreign_checkpoints(run: Path, pictures: Path, saved: object, words: str) -> None:
    path = run / "vqvae" / "checkpoint.pt"
    torch.save(saved, path)
    with pytest.raises(DataError, match=rf"{path}: {words}"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


def test_a_checkpoint_of_other_sizes(run: Path, pictures: Path) -> None:
    path = run / "vqvae" / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    name, state = next((k, v) for k, v in saved["state"].items() if v)
    key = next(k for k, v in state.items() if isinstance(v, torch.Tensor) and v.ndim > 1)
    state[key] = state[key][:1]
    torch.save(saved, path)
    with pytest.raises(DataError, match=rf"{path}: {name} in it is of other settings"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


def test_what_is_no_number_never_replaces_a_good_checkpoint(tmp_path: Path) -> None:
    model, path = torch.nn.Linear(3, 3), tmp_path / "checkpoint.pt"
    optimiser = torch.optim.Adam(model.parameters())
    state = {"model": model, "optimiser": optimiser}
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    resume.save_checkpoint(state, path, 1, {})  # type: ignore[arg-type]
    before = path.read_bytes()
    with torch.no_grad():
        model.weight[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"model\.weight is not finite at step 2; the last checkpoint is kept"):
        resume.save_checkpoint(state, path, 2, {})  # type: ignore[arg-type]
    with torch.no_grad():
        model.weight.zero_()
    optimiser.state[model.weight]["exp_avg"].fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="exp_avg is not finite at step 2"):
        resume.save_checkpoint(state, path, 2, {})  # type: ignore[arg-type]
    assert path.read_bytes() == before


def test_a_run_of_an_earlier_version_is_refused_by_name(run: Path, pictures: Path) -> None:
    """Its option had another name; its checkpoint counted the steps beside the averages, which count them too."""
    config, path = run / "vqvae" / "config.json", run / "vqvae" / "checkpoint.pt"
    text, saved = config.read_text(), torch.load(path, weights_only=True)
    config.write_text(text.replace('"codebook_init"', '"start"'))
    with pytest.raises(DataError, match=r"training\.start: auto then, None now"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)
    config.write_text(text)
    torch.save(saved | {"state": saved["state"] | {"taken": {}}}, path)
    with pytest.raises(DataError, match=rf"{path}: holds .*taken; expected"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


@pytest.mark.parametrize(
    "line",
    ["[1]", "1", "null", '"step"', "[" * 100_000, '{"step": [1]}', f'{{"step": 1{"0" * 400}}}', '{"loss": 1}', "\xff"],
)
def test_odd_lines_in_the_metrics(run: Path, line: str) -> None:
    log = run / "vqvae" / "metrics.jsonl"
    good = log.read_text()
    log.write_bytes(f"{line}\n{good}".encode("latin-1"))
    loop._cut(log, 3)
    assert log.read_text() == good


@pytest.mark.parametrize("text", ["{}", "[1]", "1", "null", "", "{", "[" * 100_000, '{"model": {}, "training": {}}'])
def test_odd_settings(run: Path, pictures: Path, text: str) -> None:
    path = run / "vqvae" / "config.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"{path}: not the settings of a stage"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


@pytest.mark.parametrize("value", ["fp8", 5, ["bf16"], None])
def test_an_odd_precision(run: Path, pictures: Path, value: object) -> None:
    path = run / "vqvae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": value}))
    with pytest.raises(DataError, match=rf"{path}: precision is"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


def test_settings_that_were_removed(run: Path, pictures: Path) -> None:
    path = run / "vqvae" / "config.json"
    path.unlink()
    with pytest.raises(DataError, match=rf"{path}: missing, so nobody can tell"):
        train(("vqvae",), [pictures], run, "tiny", LONGER)


def test_a_vqvae_that_was_removed(run: Path, pictures: Path) -> None:
    """What builds on it names the file; its own stage, asked for again, writes it again."""
    path = run / "model" / "vqvae.safetensors"
    whole = path.read_bytes()
    path.unlink()
    for stage in ("structure", "texture"):
        with pytest.raises(ModelError, match=rf"{path}: missing; train the vqvae stage into {run} first"):
            train((stage,), [pictures], run, "tiny", FIRST)
    train(("vqvae",), [pictures], run, "tiny", FIRST)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("rate", ["1e8", "1e30"])
def test_a_training_that_diverges(
    pictures: Path, tmp_path: Path, rate: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One sentence that names stage, step and what became infinite; no checkpoint holds it."""
    options = "--preset tiny --steps 60 --checkpoint-every 1 --log-every 1 --quiet --force --learning-rate"
    words = ["train", "vqvae", "--data", str(pictures), "--out", str(tmp_path), *options.split(), rate]
    monkeypatch.setattr("sys.argv", ["manifill", *words])
    assert cli.main() == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"manifill: .* at step \d+; the last checkpoint is kept", said)
    saved = tmp_path / "vqvae" / "checkpoint.pt"
    if saved.exists():
        parts = torch.load(saved, weights_only=True)["state"].values()
        tensors = [value for part in parts for value in part.values() if isinstance(value, torch.Tensor)]
        assert tensors
        assert all(tensor.isfinite().all() for tensor in tensors)


def test_the_same_training_leaves_the_same_files(pictures: Path, tmp_path: Path) -> None:
    """Row 27."""
    for name in "ab":
        train(("vqvae", "structure", "texture"), [pictures], tmp_path / name, "tiny", FIRST)
    for name in NETWORKS:
        a, b = ((tmp_path / run / "model" / f"{name}.safetensors").read_bytes() for run in "ab")
        assert a == b
    assert model_hash(tmp_path / "a" / "model") == model_hash(tmp_path / "b" / "model")


def test_a_link_in_the_place_of_an_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    """Row 25, and a link in the place of the file itself, and one to nowhere."""
    other, path = tmp_path / "other", tmp_path / "photo_000.png"
    other.write_bytes(b"as before")
    (tmp_path / "photo_000.png.part").symlink_to(other)
    path.symlink_to(other)
    write_atomic(path, lambda f: f.write(b"result"))
    assert (path.read_bytes(), path.is_symlink(), other.read_bytes()) == (b"result", False, b"as before")
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    write_atomic(tmp_path / "a.png", lambda f: f.write(b"result"))
    assert not (tmp_path / "nowhere").exists()
    long = tmp_path / ("x" * 251 + ".png")
    write_atomic(long, lambda f: f.write(b"result"))
    assert long.read_bytes() == b"result"


def test_only_own_leftovers_are_removed(run: Path, pictures: Path) -> None:
    theirs = [run / "model" / "structure.safetensors.0123.part", run / "vqvae" / "thesis.docx.part"]
    own = [run / "model" / "vqvae.safetensors.0123.part", run / "vqvae" / "checkpoint.pt.part"]
    for path in (*theirs, *own):
        path.write_bytes(b"half")
    train(("vqvae",), [pictures], run, "tiny", LONGER)
    assert [path.exists() for path in (*theirs, *own)] == [True, True, False, False]
    remove_stray(run / "model" / "structure.safetensors")
    assert not theirs[0].exists()
