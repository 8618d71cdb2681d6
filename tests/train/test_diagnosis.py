"""What is wrong with a run is said, with its figure; what is healthy or too young is not complained of."""

from __future__ import annotations

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from manifill.config import to_dict
from manifill.data.dataset import Collection
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError, sources
from manifill.networks.checkpoint import ModelError, load_vqvae
from manifill.train.diagnosis import CHECKS, EARLY, check_vqvae, diagnose
from manifill.train.logs import Log, read_lines, read_log
from manifill.train.loop import Setup
from manifill.train.presets import PRESETS
from manifill.train.structure import StructureStage

CPU = torch.device("cpu")
STEPS = 4000
SETTINGS = {
    "model": to_dict(PRESETS["faces-128"].model),  # 512 codes
    "training": {"steps": STEPS, "batch_size": 8, "learning_rate": 1e-3, "discriminator_rate": 4e-4},
    "pictures": 9000,
}
BELOW = {"val_psnr_mean_colour": 13.1}


def falling(step: int, first: float, last: float) -> float:
    """A figure that falls quickly, then slowly, with the noise of batches."""
    return last + (first - last) * 200 / (200 + step) + 0.01 * last * math.sin(step)


def healthy(stage: str, steps: int = STEPS) -> list[dict]:
    """A log as the bundled model's, with a discriminator that sees."""
    lines: list[dict] = []
    for step in range(50, steps + 1, 50):
        lines.append(
            {"step": step}
            | {
                "vqvae": {"loss": falling(step, 0.3, 0.007), "reconstruction": falling(step, 0.3, 0.006)},
                "structure": {"bits": falling(step, 9, 1.7), "bits_hole": falling(step, 9, 4.7)},
                "texture": {"l1": falling(step, 0.4, 0.05), "discriminator": 0.7, "d_real": 0.4, "d_composed": -0.2},
            }[stage]
        )
        if step % 500 == 0:
            held = falling(step, 9, 5.0)
            lines.append(
                {"step": step}
                | {
                    "vqvae": {
                        "val_psnr": 30.6,
                        "val_psnr_structure": 25.2,
                        "val_psnr_mean_colour": 13.1,
                        "val_structure_codes_used": 512,
                        "val_structure_perplexity": 455.0,
                        "val_texture_codes_used": 510,
                        "val_texture_perplexity": 474.0,
                    },
                    "structure": {"val_bits_hole": held, "val_bits_known": 0.7, "val_seen_bits_hole": held - 0.2},
                    "texture": {"val_psnr": 30.2},
                }[stage]
            )
    return lines


def changed(lines: list[dict], **figures) -> list[dict]:
    """Lines in which some figures, given as values or functions of the step, are others."""
    return [
        {k: (f(line["step"]) if callable(f := figures.get(k, v)) else f) for k, v in line.items()} for line in lines
    ]


def named(stage: str, lines: list[dict], settings: dict = SETTINGS) -> dict[str, str]:
    return diagnose(stage, Log(lines, settings, BELOW)).problems


FAULTS = [
    ("vqvae", "structure codebook collapsed", {"val_structure_perplexity": 1.7, "val_structure_codes_used": 3}, "1.7"),
    ("vqvae", "texture codebook collapsed", {"val_texture_perplexity": 2.2, "val_texture_codes_used": 4}, "2.2"),
    ("vqvae", "structure codes unused", {"val_structure_codes_used": 90, "val_structure_perplexity": 60.0}, "90 of"),
    ("vqvae", "texture codes unused", {"val_texture_codes_used": 101, "val_texture_perplexity": 60.0}, "101 of 512"),
    ("vqvae", "structure empty", {"val_psnr_structure": 13.4}, "13.4 dB"),
    ("vqvae", "texture codes empty", {"val_psnr": 25.3}, "25.3 dB"),
    ("vqvae", "training diverging", {"reconstruction": lambda s: 0.01 if s < 3000 else 0.08}, "0.08"),
    ("structure", "prior learnt nothing", {"val_bits_hole": 8.97, "val_seen_bits_hole": 8.96}, "8.97"),
    ("structure", "condition unused", {"val_bits_known": 5.1}, "5.10"),
    ("structure", "prior memorising", {"val_seen_bits_hole": lambda s: falling(s, 9, 5.0) - s / 4000}, "1.00 apart"),
    (
        "structure",
        "prior getting worse on held-out pictures",
        {
            "val_bits_hole": lambda s: 5 + abs(s - 2000) / 4000,
            "val_seen_bits_hole": lambda s: 4.9 + abs(s - 2000) / 4000,
        },
        "5.50 bits a code inside the hole at step 4000, 5.00 at step 2000",
    ),
    ("structure", "training diverging", {"bits": lambda s: 2.0 if s < 3000 else 6.0}, "6"),
    ("texture", "discriminator won", {"discriminator": 0.01, "d_real": 2.1, "d_composed": -1.9}, "0.01"),
    ("texture", "discriminator blind", {"discriminator": 0.985, "d_real": 0.33, "d_composed": 0.3}, "0.985"),
    ("texture", "holes grey", {"val_psnr": 19.5}, "13.5 dB"),
    ("texture", "training diverging", {"l1": lambda s: 0.1 if s < 3000 else 0.3}, "0.3"),
]


SINCE = ("training diverging", "prior getting worse on held-out pictures")  # than it was before


def test_every_check_is_tried() -> None:
    tried = {(stage, name) for stage, name, *_ in FAULTS}
    assert tried == {(stage, name) for stage, checks in CHECKS.items() for name in checks}


@pytest.mark.parametrize("stage", CHECKS)
@pytest.mark.parametrize("taken", [50, 500, 2000, STEPS])
def test_a_healthy_log_is_not_complained_of(stage: str, taken: int) -> None:
    found = diagnose(stage, Log(healthy(stage, taken), SETTINGS, BELOW))
    assert found.problems == {}
    if taken == STEPS:
        assert (len(found.absent), found.unchecked) == (len(CHECKS[stage]), [])


@pytest.mark.parametrize(("stage", "name", "figures", "said"), FAULTS)
def test_a_fault_is_named_with_its_figure(stage: str, name: str, figures: dict, said: str) -> None:
    lines = changed(healthy(stage), **figures)
    found = named(stage, lines)
    assert list(found) == [name]
    assert said in found[name]
    assert re.search(r"healthy|should", found[name]), "says what would be healthy"
    early = [line for line in lines if line["step"] < EARLY * STEPS]
    assert early
    assert named(stage, early) == {}


@pytest.mark.parametrize(("stage", "name", "figures"), [f[:3] for f in FAULTS if f[1] not in SINCE])
def test_a_fault_of_earlier_steps_alone_is_past(stage: str, name: str, figures: dict) -> None:
    lines = healthy(stage)
    half = len(lines) // 2
    assert name not in named(stage, changed(lines[:half], **figures) + lines[half:])


def test_a_short_run_that_is_finished_is_judged() -> None:
    settings = SETTINGS | {"training": {"steps": 40}}
    line = {"step": 40, "val_bits_hole": 8.99, "val_bits_known": 0.5}
    assert list(named("structure", [line], settings)) == ["prior learnt nothing"]
    assert named("structure", [line | {"step": 39}], settings) == {}


def test_sets_that_differ_from_the_start_are_not_memorised() -> None:
    lines = changed(healthy("structure"), val_seen_bits_hole=lambda s: falling(s, 9, 5.0) - 0.8)
    assert named("structure", lines) == {}
    lines = changed(healthy("structure"), val_seen_bits_hole=lambda s: falling(s, 9, 5.0) - 1.2)
    assert list(named("structure", lines)) == ["prior memorising"], "memorised before the first validation"


def test_a_prior_that_memorises_has_learnt_something() -> None:
    lines = changed(healthy("structure"), val_bits_hole=9.9, val_seen_bits_hole=2.0)
    assert list(named("structure", lines)) == ["prior memorising"]


def test_a_loss_that_stays_is_not_wrong() -> None:
    lines = changed(healthy("vqvae"), loss=0.01, reconstruction=0.01)
    assert named("vqvae", lines) == {}


def test_few_validation_pictures_cannot_show_every_code() -> None:
    few = {"val_structure_codes_used": 190, "val_structure_perplexity": 150.0}
    lines = changed(healthy("vqvae"), **few)
    assert list(named("vqvae", lines)) == ["structure codes unused"]
    assert named("vqvae", lines, SETTINGS | {"pictures": 20}) == {}


@pytest.mark.parametrize("pictures", ["streamed", 9000])
def test_what_is_not_logged_is_said_to_be_unknown(pictures: object) -> None:
    lines = [{k: v for k, v in line.items() if k != "val_seen_bits_hole"} for line in healthy("structure")]
    found = diagnose("structure", Log(lines, SETTINGS | {"pictures": pictures}, {}))
    assert "prior memorising" not in found.absent
    assert [words for words in found.unchecked if words.startswith("prior memorising: no bits on pictures seen")]
    texture = diagnose("texture", Log(healthy("texture"), SETTINGS, {}))
    assert texture.unchecked == ["holes grey: the VQ-VAE's psnr_mean_colour is not known"]


def test_a_taught_prior_may_leave_the_true_codes() -> None:
    """Guidance moves it away from their likelihood on purpose."""
    figures = next(figures for _, name, figures, _ in FAULTS if name == "prior getting worse on held-out pictures")
    lines = changed(healthy("structure"), **figures)
    taught = SETTINGS | {"training": SETTINGS["training"] | {"autoguidance": 1.0}}
    assert named("structure", lines) != {}
    assert named("structure", lines, taught) == {}


def test_a_discriminator_without_weight_may_be_blind() -> None:
    lines = changed(healthy("texture"), discriminator=1.0, d_real=0.0, d_composed=0.0)
    off = SETTINGS | {"training": SETTINGS["training"] | {"adversarial_weight": 0.0}}
    assert named("texture", lines, off) == {}


def test_what_is_set_already_is_not_advised() -> None:
    lines = changed(healthy("texture"), discriminator=0.985, d_real=0.33, d_composed=0.3)
    sees = {"discriminator_norm": "none", "adversarial_ratio": 1.5}
    told = named("texture", lines, SETTINGS | {"training": SETTINGS["training"] | sees})["discriminator blind"]
    assert "Train longer" in told
    assert "discriminator_norm" not in told


@pytest.mark.parametrize(
    "figure",
    [
        {"psnr_structure": 14.0},
        {"psnr_structure": 14.2},
        {"structure_perplexity": 3.9},
        {"texture_perplexity": 4.1},
    ],
)
def test_the_gate_refuses_what_is_called_empty_or_collapsed(figure: dict) -> None:
    lines = changed(healthy("vqvae"), **{f"val_{key}": value for key, value in figure.items()})
    told = [name for name in named("vqvae", lines) if "unused" not in name]
    found = {k.removeprefix("val_"): v for k, v in lines[-1].items()}
    if told:
        with pytest.raises(ModelError):
            check_vqvae(found, Path("vqvae"), force=False)
    else:
        check_vqvae(found, Path("vqvae"), force=False)


def test_structure_that_the_decoder_needs_is_not_empty() -> None:
    """The paper's decoder never sees zero texture: its structure alone is grey, another picture's is a fault."""
    grey = changed(healthy("vqvae"), val_psnr_structure=13.4, val_psnr=28.0)
    for swapped, sound in ((16.0, True), (27.5, False)):
        lines = [line | {"val_psnr_swapped": swapped} if "val_psnr" in line else line for line in grey]
        assert ("structure empty" not in named("vqvae", lines)) == sound
        found = {k.removeprefix("val_"): v for k, v in lines[-1].items()}
        with nullcontext() if sound else pytest.raises(ModelError, match="carry nothing"):
            check_vqvae(found, Path("vqvae"), force=False)


def test_reading_survives_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "structure"
    folder.mkdir()
    assert read_lines(folder / "metrics.jsonl") == ([], 0)
    lines = changed(healthy("structure"), val_bits_hole=8.97, val_seen_bits_hole=8.97)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '[1]\n{"loss": 1}\n{"step": 5, "bits": NaN}\n{"step": 4050, "bi')
    assert read_lines(folder / "metrics.jsonl") == ([*lines, {"step": 5}], 3)
    assert diagnose("structure", read_log(tmp_path, "structure")).unchecked == [
        "everything: config.json, the stage's settings, is missing"
    ]
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    assert list(diagnose("structure", read_log(tmp_path, "structure")).problems) == ["prior learnt nothing"]
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"structure/config\.json: not the settings of a stage"):
        read_log(tmp_path, "structure")


def test_seen_pictures_are_measured_as_held_out_ones(reference_model: Path, pictures: Path) -> None:
    """The same pictures give the same bits, whether they are called seen or held out; others do not."""
    preset = PRESETS["tiny"]
    vqvae, _ = load_vqvae(reference_model)
    held, other = Pictures([pictures], 64, limit=6, quiet=True), Pictures([pictures], 64, quiet=True)
    stages = []
    for seen in (None, held, other):
        torch.manual_seed(0)
        stages.append(StructureStage(Setup(preset, held), vqvae, seen=seen))
    plain, same, differing = (stage.validate() for stage in stages)
    assert set(plain) == {"bits", "bits_hole", "bits_known"}
    assert all(same[f"seen_{key}"] == same[key] == plain[key] for key in plain)
    assert all(differing[f"seen_{key}"] != differing[key] for key in plain)


def test_a_sample_is_spread_and_cut_as_what_is_validated_on(pictures: Path, tmp_path: Path) -> None:
    listing = sources([pictures])
    everything = Pictures.of(listing, 32, quiet=True)
    for in_memory in (True, False):
        sample = Collection(listing, 32, "centre", in_memory, quiet=True).sample(4)
        assert sample is not None
        assert np.array_equal(sample.array, everything.array[::6])
    random = Collection(listing, 32, "random", quiet=True).sample(100)
    assert random is not None
    assert np.array_equal(random.array, Pictures.of(listing, 32, quiet=True, crop="random").array)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert Collection(sources([tmp_path]), 32, "centre", in_memory=False, quiet=True).sample(4) is None
