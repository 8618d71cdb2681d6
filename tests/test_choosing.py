"""Which of many completions to keep, and going on from one: nearer or further, or part of it anew."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photo_files as photos
import pytest
import torch
from PIL import Image

from manifill import Completion, Fit, ImageError, Inpainter, Preview, cli
from manifill.inpainter import bundled
from manifill.networks.texture import hole_cells
from manifill.pipeline import Draft, read_squares
from manifill.sampling.choose import best, farthest


def test_the_best_come_first() -> None:
    assert best([0.5, 2, -1, 2, 1], 3) == [1, 3, 4]


def test_farthest_points_by_brute_force() -> None:
    points = np.random.default_rng(0).normal(0, 1, (30, 5))
    chosen = farthest(points, 7, 10)
    assert chosen[0] == 7
    assert len(set(chosen)) == 10
    for n in range(1, 10):
        distances = np.linalg.norm(points[:, None] - points[chosen[:n]], axis=2).min(1)
        assert distances[chosen[n]] == pytest.approx(distances.max())


def test_farthest_of_points_that_are_the_same() -> None:
    assert sorted(farthest(np.zeros((4, 3)), 2, 4)) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def hole() -> np.ndarray:
    found = np.zeros((96, 128), np.bool_)
    found[30:66, 40:90] = True
    return found


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photos.face(96, 128)


@pytest.fixture(scope="module")
def both(reference_model: Path) -> Inpainter:
    """The reference model, whose random weights read in either direction as well as in one."""
    found = Inpainter.from_pretrained(reference_model, "cpu")
    found.structure.config = dataclasses.replace(found.structure.config, both_directions=True)
    return found


def distances(codes: list[np.ndarray]) -> float:
    """Return the mean share of codes in which two differ."""
    return float(np.mean([(a != b).mean() for a, b in itertools.combinations(codes, 2)]))


@pytest.mark.parametrize("choose", ["diverse", "likely"])
def test_some_of_many_are_kept(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray, choose: str) -> None:
    everything = list(inpainter(photo, hole, num_samples=12, seed=3))
    asked = inpainter(photo, hole, num_samples=4, of=12, seed=3, choose=choose)  # type: ignore[arg-type]
    kept = list(asked)
    assert len(asked) == len(kept) == 4
    assert [c.index for c in kept] == [0, 1, 2, 3]
    by_seed = {c.seed: c for c in everything}
    assert all(np.array_equal(c.samples, by_seed[c.seed].samples) for c in kept)
    if choose == "diverse":
        lookup = inpainter.vqvae.lookup
        features = np.stack([lookup(torch.from_numpy(c.codes)).flatten().numpy() for c in everything])
        likeliest = int(np.argmax([c.log_likelihood for c in everything]))
        assert [c.seed - 3 for c in kept] == farthest(features, likeliest, 4)
        assert distances([c.codes for c in kept]) >= distances([c.codes for c in everything])
    else:
        assert [c.seed - 3 for c in kept] == best([c.log_likelihood for c in everything], 4)


@pytest.mark.parametrize("size", [(96, 128), (96, 200)], ids=["one crop", "two crops"])
def test_the_most_coherent_come_first(both: Inpainter, size: tuple[int, int]) -> None:
    """Coherence is the mean log-likelihood of the hole's codes in a second pass, from right to left, over all crops."""
    photo, hole = photos.face(*size), crops_of("two")[:, : size[1]].copy()
    hole[:, 100:] &= size[1] == 200
    everything = list(both(photo, hole, num_samples=6, seed=3))
    kept = list(both(photo, hole, num_samples=6, of=6, seed=3, choose="coherent"))
    assert [c.coherence for c in everything] == [None] * 6
    scores = [c.coherence or 0 for c in kept]
    assert scores == sorted(scores, reverse=True)
    assert {c.seed: c.log_likelihood for c in kept} == {c.seed: c.log_likelihood for c in everything}
    for c in kept[:2]:
        total, count = 0.0, 0
        for i in range(len(c.request.crops)):
            (square,) = read_squares(both, c.request, i, [Draft(0, c.seed, list(c.patches[:i]))], {})
            codes = torch.from_numpy(c.codes[i : i + 1])
            turn = torch.tensor([-1.0])
            logits = both.structure.logits(both.vqvae.lookup(codes).flip(3), square.cond.flip(3), turn).flip(3)
            each = logits.log_softmax(1).gather(1, codes[:, None])[:, 0]
            own = hole_cells(square.mask, *codes.shape[1:]).view_as(codes) & (square.known < 0)
            total, count = total + float(each[own].sum()), count + int(own.sum())
        assert c.coherence == pytest.approx(total / count, abs=1e-4)


def test_previews_come_only_of_what_is_kept(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray) -> None:
    events = list(inpainter(photo, hole, num_samples=2, of=5, seed=0).events())
    assert [type(e).__name__ for e in events] == ["Preview", "Completion"] * 2
    assert [e.index for e in events] == [0, 0, 1, 1]


def test_the_first_square_is_shown_before_others_are_read(inpainter: Inpainter) -> None:
    hole = np.zeros((96, 200), bool)
    hole[30:54, 20:44] = hole[30:54, 150:174] = True
    completions = inpainter(photos.face(96, 200), hole, num_samples=2, seed=0)
    assert len(completions.crops) == 2
    events = list(completions.events())
    assert [type(e).__name__ for e in events] == ["Preview"] * 2 + ["Completion"] * 2
    assert all(e.crop is completions.crops[0] for e in events if isinstance(e, Preview))


def test_bad_choices(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray) -> None:
    with pytest.raises(ValueError, match="of is 3; expected at least the 4"):
        inpainter(photo, hole, num_samples=4, of=3)
    with pytest.raises(ValueError, match="choose is 'nice'; expected diverse, likely or coherent"):
        inpainter(photo, hole, choose="nice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads codes from left to right alone"):
        inpainter(photo, hole, num_samples=2, of=4, choose="coherent")


def crops_of(name: str) -> np.ndarray:
    """Return a hole of one crop, or of two that see each other."""
    found = np.zeros((96, 200), np.bool_)
    found[30:60, 40:70] = True
    found[30:66, 84:116] = name == "two"
    return found


@pytest.mark.parametrize("name", ["one", "two"])
def test_an_amount_of_nothing_is_the_same_completion(inpainter: Inpainter, name: str) -> None:
    photo, hole = photos.face(96, 200), crops_of(name)
    (first,) = inpainter(photo, hole, num_samples=1, seed=7)
    assert len(first.codes) == (2 if name == "two" else 1)
    for again in inpainter.near(first, 0, num_samples=3, seed=7):
        assert np.array_equal(again.codes, first.codes)
        assert np.array_equal(again.samples, first.samples)
        assert again.log_likelihood == pytest.approx(first.log_likelihood, abs=1e-4)


def test_more_is_further_away(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray) -> None:
    (first,) = inpainter(photo, hole, num_samples=1, seed=0)
    others = [c.codes for c in inpainter(photo, hole, num_samples=12, seed=50)]
    usual = np.mean([(first.codes != codes).mean() for codes in others])
    apart = [
        np.mean([(first.codes != c.codes).mean() for c in inpainter.near(first, amount, num_samples=12, seed=0)])
        for amount in (0.0, 0.15, 0.4, 1.0)
    ]
    assert apart[0] == 0
    assert all(a < b for a, b in itertools.pairwise(apart))
    assert apart[-1] == pytest.approx(usual, rel=0.1)


def test_near_completions_differ_from_each_other_and_are_reproducible(
    inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray
) -> None:
    (first,) = inpainter(photo, hole, num_samples=1, seed=0)
    some, again = ([c.codes for c in inpainter.near(first, 0.5, num_samples=3, seed=9)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert distances(some) > 0
    (last,) = inpainter.near(first, 0.5, num_samples=1, seed=11)
    assert np.array_equal(last.codes, some[2])


def changed(a: Completion, b: Completion) -> np.ndarray:
    """Return where two completions' samples differ, bool (H, W)."""
    different = a.samples != b.samples
    return different if different.ndim == 2 else different.any(2)


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("fit", [Fit(), Fit(seamless=False), Fit(feather=3), Fit(strategy="original")], ids=str)
def test_outside_the_part_everything_is_the_completions_own(inpainter: Inpainter, name: str, fit: Fit) -> None:
    photo, hole = photos.deep(96, 200), crops_of(name)  # 16 bits show what random weights hardly change
    part = np.zeros_like(hole)
    part[20:50, 50:95] = True
    (first,) = inpainter(photo, hole, num_samples=1, seed=7, fit=fit)
    seen = np.zeros_like(hole)
    for again in inpainter.redraw(first, part, num_samples=3, seed=7):  # the same seed, and other noise
        seen |= changed(again, first)
        assert 0 < (again.codes != first.codes).sum() < again.codes.size
    assert seen.any()
    assert not seen[~(hole & part)].any()


def test_redrawn_codes_are_those_in_the_part(inpainter: Inpainter) -> None:
    photo, hole = photos.face(64, 64), np.zeros((64, 64), np.bool_)
    hole[8:56, 8:56] = True
    part = np.zeros_like(hole)
    part[16:32, 24:40] = True
    (first,) = inpainter(photo, hole, num_samples=1, seed=0)
    cells = part.reshape(8, 8, 8, 8).any((1, 3))
    different = np.zeros((8, 8), np.bool_)
    for again in inpainter.redraw(first, part, num_samples=8, seed=1):
        different |= (again.codes != first.codes)[0]
    assert np.array_equal(different, cells)


def test_redrawing_again_keeps_what_was_kept(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray) -> None:
    left, right = hole.copy(), hole.copy()
    left[:, 64:], right[:, :64] = False, False
    (first,) = inpainter(photo, hole, num_samples=1, seed=0)
    (second,) = inpainter.redraw(first, left, num_samples=1, seed=1)
    (third,) = inpainter.redraw(second, right, num_samples=1, seed=2)
    assert not changed(third, second)[~right].any()
    assert changed(third, second)[right].any()
    assert not changed(third, first)[~hole].any()
    (near,) = inpainter.near(third, 0, num_samples=1, seed=2)
    assert np.array_equal(near.codes, third.codes)


def test_a_part_that_is_not_in_the_hole(inpainter: Inpainter, photo: np.ndarray, hole: np.ndarray) -> None:
    (first,) = inpainter(photo, hole, num_samples=1, seed=0)
    with pytest.raises(ImageError, match="does not meet the hole"):
        inpainter.redraw(first, np.roll(hole, 50, 0) & ~hole)
    with pytest.raises(ValueError, match=r"amount is 1\.5"):
        inpainter.near(first, 1.5)


Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reference_model: Path, hole: np.ndarray) -> Run:
    """Return the command line on a photo and a hole, to be called with further arguments."""
    photo = photos.make("rgb.png", tmp_path, 96, 128)
    Image.fromarray(hole).save(tmp_path / "mask.png")

    def call(*arguments: object) -> int:
        given = ["manifill", "inpaint", photo, tmp_path / "mask.png", "--model", reference_model, *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, given)])
        return cli.main()

    return call


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_going_on_from_saved_files(run: Run, tmp_path: Path, hole: np.ndarray) -> None:
    assert run("-o", tmp_path / "a", "-n", 2, "--seed", 5, "--temperature", 1.5, "--no-seamless") == 0
    saved = tmp_path / "a" / "rgb_001.png"
    assert run("-o", tmp_path / "same", "-n", 1, "--near", saved, "--amount", 0, "--seed", 6) == 0
    assert np.array_equal(pixels(tmp_path / "same" / "rgb_000.png"), pixels(saved))
    line = json.loads((tmp_path / "same" / "manifest.jsonl").read_text().splitlines()[0])
    assert line["temperature"] == 1.5
    assert line["fit"]["seamless"] is False
    part = np.zeros_like(hole)
    part[:, :64] = True
    Image.fromarray(part).save(tmp_path / "part.png")
    assert run("-o", tmp_path / "part", "-n", 2, "--near", saved, "--redraw", tmp_path / "part.png") == 0
    for k in range(2):
        different = (pixels(tmp_path / "part" / f"rgb_{k:03d}.png") != pixels(saved)).any(2)
        assert not different[~(part & hole)].any()
        assert different[part & hole].any()
    assert run("-o", tmp_path / "near", "-n", 2, "--near", tmp_path / "part" / "rgb_001.png", "--amount", 0.4) == 0


def test_settings_of_a_saved_completion_are_kept(run: Run, tmp_path: Path) -> None:
    """Without the known codes and the fit of then, its codes would mean another picture."""
    options = ("--known-codes", "none", "--strategy", "original", "--dilate", 2, "--top-k", 9)
    assert run("-o", tmp_path / "a", "-n", 1, "--seed", 5, *options) == 0
    saved = tmp_path / "a" / "rgb_000.png"
    assert run("-o", tmp_path / "b", "-n", 1, "--near", saved, "--amount", 0) == 0
    assert np.array_equal(pixels(tmp_path / "b" / "rgb_000.png"), pixels(saved))


def test_what_cannot_be_gone_on_from(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture, hole: np.ndarray) -> None:
    assert run("-o", tmp_path / "a", "-n", 2, "--seed", 5) == 0
    saved, manifest = tmp_path / "a" / "rgb_000.png", tmp_path / "a" / "manifest.jsonl"
    lonely = tmp_path / "b" / "rgb_000.png"
    lonely.parent.mkdir()
    shutil.copy(saved, lonely)
    good, other = manifest.read_text(), Image.fromarray(~pixels(saved))
    line = json.loads(good.splitlines()[0])

    def refused(words: str, path: Path = saved, *more: object) -> None:
        assert run("-o", tmp_path / "out", "-n", 1, "--near", path, *more) == 2
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        assert words in sentence
        assert not (tmp_path / "out").exists()

    capsys.readouterr()
    refused("no manifest.jsonl beside it or above says how it was made", lonely)
    refused("no manifest.jsonl", tmp_path / "none.png")
    refused("--of chooses among new completions", saved, "--of", 5)
    refused("amount is 2", saved, "--amount", 2)
    for changes, words in (
        ({"model": "another 0123456789abcdef"}, "made by the model another 0123456789abcdef; expected"),
        ({"codes": line["codes"] * 2}, "has codes (2, 8, 8); expected (1, 8, 8)"),
        ({"codes": [[[99] * 8] * 8]}, "0 to 31"),
        ({"codes": "many"}, "expected list"),
        ({"codes": [[1, 2], [3]]}, "cannot be understood"),
        ({"codes": [[["one"] * 8] * 8]}, "cannot be understood"),
        ({"model": ""}, "made by the model ; expected"),
        ({"fit": {"width": 3}}, "cannot be understood"),
        ({"fit": None}, "expected dict"),
        ({"known_codes": None}, "expected str"),
    ):
        manifest.write_text(json.dumps(line | changes) + "\n")
        refused(words)
    manifest.write_text(good)
    other.save(saved)
    refused("differs from", saved)
    other.resize((64, 64)).save(saved)
    refused("pixels (64, 64, 3)", saved)
    assert run("-o", tmp_path / "out", "--redraw", tmp_path / "mask.png") == 2
    assert "--redraw needs the completion" in capsys.readouterr().err


@pytest.mark.slow
def test_choosing_makes_the_bundled_models_completions_more_diverse() -> None:
    assert "faces-128" in bundled()
    faces = Inpainter.from_pretrained("faces-128", "cpu")
    photo, hole = photos.face(128, 128), np.zeros((128, 128), np.bool_)
    hole[32:96, 32:96] = True
    plain = distances([c.codes for c in faces(photo, hole, num_samples=6, seed=0)])
    diverse = distances([c.codes for c in faces(photo, hole, num_samples=6, of=24, seed=0)])
    likely = list(faces(photo, hole, num_samples=6, of=24, seed=0, choose="likely"))
    assert diverse > plain
    assert min(c.log_likelihood for c in likely) > np.median(
        [c.log_likelihood for c in faces(photo, hole, num_samples=24, seed=0)]
    )
