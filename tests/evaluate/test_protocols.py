"""The masks of evaluations: named, the same everywhere, and what a folder of them says is checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import cli
from manifill.data.masks import centre
from manifill.evaluate import protocols
from manifill.evaluate.protocols import PROTOCOLS, digest, mask, masks, read_masks, write_masks

FIXED = ("paper-centre", "pic-best50", "repaint-half", "repaint-expand", "repaint-sr2x", "repaint-altlines")
RANDOM = tuple(name for name in PROTOCOLS if name not in FIXED)
SHARES = {
    "paper-centre": 1 / 4,
    "pic-best50": 1 / 4,
    "repaint-half": 1 / 2,
    "repaint-expand": 15 / 16,
    "repaint-sr2x": 3 / 4,
    "repaint-altlines": 1 / 2,
}


def bounds(name: str) -> tuple[float, float]:
    """Return what a mask's hole must exceed and may reach, as a share of the picture."""
    if name.startswith("pconv"):
        percent = int(name.removeprefix("pconv-"))
        return max(percent - 10, 1) / 100, percent / 100
    return (0, 1 - 1e-6) if name.startswith(("comod", "authors")) else (0, 0.5)


def test_every_protocol_is_described() -> None:
    for name, protocol in PROTOCOLS.items():
        assert "et al. (" in protocol.description, name
        assert protocol.description.endswith("."), name
        assert re.search(r"\d+0 (pictures|test masks)", protocol.description), name
        assert protocol.best is None or protocol.best[0] < protocol.best[1], name
    assert len(PROTOCOLS) == 20


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("name", RANDOM)
def test_random_masks_stay_within_their_bins(name: str, size: int) -> None:
    holes, (low, high) = masks(name, 20, size), bounds(name)
    assert holes.shape == (20, size, size)
    assert holes.dtype == np.bool_
    shares = holes.mean((1, 2))
    assert (shares > low).all()
    assert (shares <= high).all()
    assert len({hole.tobytes() for hole in holes}) == 20


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_fixed_masks(name: str, size: int) -> None:
    hole = mask(name, 0, size)
    assert hole.mean() == SHARES[name]
    assert np.array_equal(hole, mask(name, 7, size))


@pytest.mark.parametrize("size", [64, 66, 128, 256])
def test_the_centre_is_that_of_training(size: int) -> None:
    assert np.array_equal(mask("paper-centre", 0, size), centre(size, np.random.default_rng(0)) > 0)


def test_what_the_fixed_masks_leave() -> None:
    assert not mask("repaint-expand", 0, 256)[96:160, 96:160].any()
    assert mask("repaint-half", 0, 64)[:, 32:].all()
    known = ~mask("repaint-sr2x", 0, 64)
    assert known[::2, ::2].all()
    assert known.sum() == 32 * 32
    assert mask("repaint-altlines", 0, 64)[1::2].all()


def test_the_authors_masks_are_rectangles_and_strokes_by_turns() -> None:
    for index in range(8):
        hole = mask("authors-random", index, 256)
        p = np.pad(hole, 1)
        shifted = [(np.roll(p, a, 0)[1:-1, 1:-1], np.roll(p, b, 1)[1:-1, 1:-1]) for a in (-1, 1) for b in (-1, 1)]
        corners = sum(int((hole & ~rows & ~columns).sum()) for rows, columns in shifted)
        if index % 2 == 0:  # three boxes have twelve corners at most
            assert corners <= 12
            assert 64 * 64 <= hole.sum() <= 3 * 128 * 128
        else:
            assert corners > 100


def test_strokes_and_boxes_grow_from_thin_to_thick() -> None:
    """Fewest squares of 41 pixels fit into thin holes, most into thick ones; large free forms open more than small."""

    def core(name: str) -> float:
        holes = masks(name, 20, 256)
        windows = np.lib.stride_tricks.sliding_window_view(holes, (41, 41), axis=(1, 2))[:, ::8, ::8]
        return float(windows.all((3, 4)).mean())

    thin, medium, thick = core("lama-thin"), core("lama-medium"), core("lama-thick")
    assert thin < medium < thick
    assert masks("comod-small", 40, 64).mean() + 0.2 < masks("comod-large", 40, 64).mean()


@pytest.mark.parametrize("name", RANDOM)
def test_a_mask_depends_on_its_index_alone(name: str) -> None:
    many = masks(name, 5, 64)
    assert np.array_equal(many[:2], masks(name, 2, 64))
    assert np.array_equal(many[4], mask(name, 4, 64))


@pytest.mark.parametrize("name", ["lama-medium", "comod-small", "lama-thin"])
def test_a_mask_is_one_shape_at_every_size(name: str) -> None:
    coarse = mask(name, 1, 256).reshape(64, 4, 64, 4).mean((1, 3)) > 0.5
    assert (coarse != mask(name, 1, 64)).mean() < 0.05


@pytest.mark.parametrize(
    ("name", "size", "wanted"),
    [
        ("paper-centre", 128, "eb36a49aaa3dd35c"),
        ("pconv-30", 64, "1851ed62a03a2bc3"),
        ("lama-thick", 128, "4e745be146c89b4b"),
        ("lama-thin", 256, "b1ff43b2553213ab"),
        ("comod-large", 64, "f1c24eb690eaa510"),
        ("repaint-sr2x", 64, "f2bb4d65a5b46e06"),
        ("authors-random", 64, "68349c838c991fa2"),
    ],
)
def test_digests_are_pinned(name: str, size: int, wanted: str) -> None:
    assert digest(name, 4, size) == wanted


def test_a_digest_tells_sets_apart() -> None:
    sets = [
        ("pconv-30", 4, 64),
        ("pconv-30", 5, 64),
        ("pconv-30", 4, 128),
        ("repaint-wide", 4, 64),
        ("lama-thick", 4, 64),
    ]
    assert len({digest(*each) for each in sets}) == len(sets)


def test_unusable_arguments() -> None:
    with pytest.raises(ValueError, match="lama: no such protocol; there are paper-centre, authors-random, pic-best50"):
        mask("lama", 0, 64)
    with pytest.raises(ValueError, match="32 pixels or more"):
        mask("lama-thin", 0, 31)
    with pytest.raises(ValueError, match="count from 0"):
        mask("lama-thin", -1, 64)
    with pytest.raises(ValueError, match="one or more"):
        digest("lama-thin", 0, 64)


def test_write_and_read(tmp_path: Path) -> None:
    name = write_masks("lama-medium", tmp_path / "set", 3, 64)
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == [*(f"0000{k}.png" for k in range(3)), "masks.json"]
    holes, facts = read_masks(tmp_path / "set")
    assert np.array_equal(holes, masks("lama-medium", 3, 64))
    assert name == facts["digest"] == digest("lama-medium", 3, 64)
    assert (facts["protocol"], facts["count"], facts["size"]) == ("lama-medium", 3, 64)
    assert facts["description"] == PROTOCOLS["lama-medium"].description
    assert facts["version"]
    with Image.open(tmp_path / "set" / "00001.png") as file:
        assert file.mode == "1"
        assert np.array_equal(np.asarray(file.convert("L")) == 255, mask("lama-medium", 1, 64))


def test_write_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "00001.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="not empty"):
        write_masks("paper-centre", tmp_path, 2, 64)
    assert [p.name for p in tmp_path.iterdir()] == ["00001.png"]
    assert (tmp_path / "00001.png").read_bytes() == b"mine"


def test_an_interrupted_write_is_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(path: Path, *_: object) -> None:
        if path.name == "00001.png":
            raise KeyboardInterrupt
        real(path, *_)  # type: ignore[arg-type]

    real = protocols.write_atomic
    monkeypatch.setattr(protocols, "write_atomic", stop)
    with pytest.raises(KeyboardInterrupt):
        write_masks("paper-centre", tmp_path, 3, 64)
    with pytest.raises(ValueError, match=r"masks\.json: missing"):
        read_masks(tmp_path)


def damage(folder: Path, name: str) -> str:
    """Make one file of a set bad and return the words of the error."""
    path = folder / "00001.png"
    if name == "missing":
        path.unlink()
        return "00001.png: missing"
    if name == "not_an_image":
        path.write_bytes(b"hello")
        return "00001.png: missing or not an image"
    if name == "truncated":
        path.write_bytes(path.read_bytes()[:60])
        return "00001.png: missing or not an image"
    if name == "other_size":
        Image.new("1", (64, 32)).save(path)
        return "00001.png: 64x32 pixels; masks.json says 64x64"
    if name == "one_pixel":
        hole = mask("pconv-30", 1, 64)
        hole[5, 5] ^= True
        Image.fromarray(hole).save(path)
        return "00001.png: changed since"
    if name == "swapped":
        path.write_bytes((folder / "00000.png").read_bytes())
        return "00001.png: changed since"
    facts = json.loads((folder / "masks.json").read_text())
    if name == "digest":
        facts["digest"] = "0" * 16
    elif name == "count":
        facts["count"] = 2
    elif name in ("size", "protocol"):
        del facts[name]
    (folder / "masks.json").write_text("[" if name == "no_json" else json.dumps(facts))
    return "masks.json: changed" if name in ("digest", "count") else "masks.json: missing or not what"


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "not_an_image",
        "truncated",
        "other_size",
        "one_pixel",
        "swapped",
        "digest",
        "count",
        "size",
        "protocol",
        "no_json",
    ],
)
def test_a_damaged_set_is_refused(tmp_path: Path, name: str) -> None:
    write_masks("pconv-30", tmp_path, 3, 64)
    read_masks(tmp_path)
    words = damage(tmp_path, name)
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        read_masks(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", *map(str, arguments)])
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)


def test_the_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    arguments = ("masks", "--protocol", "repaint-half", "--out", tmp_path / "set", "--count", 2, "--size", 64)
    assert run(monkeypatch, *arguments) == 0
    assert digest("repaint-half", 2, 64) in capsys.readouterr().out
    assert read_masks(tmp_path / "set")[0].shape == (2, 64, 64)
    assert run(monkeypatch, *arguments) == 2
    assert "set: not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--protocol", "lama"), "lama-thin, lama-medium"),
        (("--count", "0"), "one or more"),
        (("--size", "8"), "32 pixels"),
    ],
)
def test_the_verb_tells_mistakes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, changed: tuple[str, str], words: str
) -> None:
    given = {"--protocol": "lama-thin", "--count": "2", "--size": "64", "--out": str(tmp_path / "set")}
    arguments = [word for pair in (given | dict([changed])).items() for word in pair]
    assert run(monkeypatch, "masks", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_the_command_line_loads_no_arrays() -> None:
    code = "import sys, manifill.cli; print('numpy' in sys.modules or 'manifill.evaluate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
