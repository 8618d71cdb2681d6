"""Model folders of strangers and damaged ones: one sentence that names the file, soon and with little memory."""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from manifill import Inpainter, cli
from manifill.files.manifest import find_line
from manifill.hub import parsed, published
from manifill.networks.checkpoint import (
    ModelError,
    former_hash,
    is_named,
    load_networks,
    model_hash,
    pack,
    read_header,
    save_network,
)
from manifill.networks.vqvae import VQVAE

Fields = dict[str, str]


def rewrite(path: Path, change: Callable[[Fields], object], nan: bool = False) -> None:
    """Change the header's fields of a network file and nothing else; with `nan`, all its weights too."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    change(head["__metadata__"])
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + (b"\xff\xff\xff\x7f" * (len(body) // 4) if nan else body))


def config(**values: object) -> Callable[[Fields], object]:
    return lambda head: head.update(config=json.dumps(json.loads(head["config"]) | values))


def without(name: str) -> Callable[[Fields], object]:
    return lambda head: head.pop(name)


def field(name: str, value: str) -> Callable[[Fields], object]:
    return lambda head: head.update({name: value})


STRANGERS: dict[str, tuple[str, Callable[[Fields], object], str]] = {
    # row 23 of the cases
    "no_config": ("structure", without("config"), "without config"),
    "no_image_size": ("structure", without("image_size"), "without image_size"),
    "no_step": ("structure", without("step"), "without step"),
    "no_figures": ("structure", without("figures"), "without figures"),
    "figures_list": ("structure", field("figures", "[1]"), "figures is"),
    "size_7": ("vqvae", field("image_size", "7"), "image_size is 7"),
    "size_80000": ("vqvae", field("image_size", "80000"), "image_size is 80000"),
    "layers_10m": ("structure", config(layers=10_000_000), "layers"),
    "width_6000": ("structure", config(width=6000), "of shape"),
    # more of the kind
    "nested_figures": ("texture", field("figures", "[" * 100_000 + "]" * 100_000), "figures is"),
    "figure_is_text": ("texture", field("figures", '{"psnr": "30"}'), "psnr in its figures"),
    "no_heads": ("structure", config(heads=0), "heads is 0"),
    "attention_beyond": ("structure", config(attention_layers=5), "5 attention_layers of 4 layers"),
    "width_is_text": ("texture", config(width="8"), "width is '8'"),
    "width_is_true": ("discriminator", config(width=True), "width is 'True'"),
    "hot": ("structure", field("config", '{"temperature": NaN}'), "missing fields"),
    "unknown": ("vqvae", field("code", "import os"), "unknown code"),
    "codebook_list": ("vqvae", field("codebook", "[1]"), "codebook is"),
    "step_minus": ("vqvae", field("step", "-1"), "step is"),
}


@pytest.fixture
def folder(tmp_path: Path, reference_model: Path) -> Path:
    return Path(shutil.copytree(reference_model, tmp_path / "model"))


def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str]:
    """Run a verb; return its exit code and what it says on stderr."""
    monkeypatch.setattr(sys, "argv", ["manifill", *map(str, words)])
    code = cli.main()
    return code, capsys.readouterr().err


def refusals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, folder: Path, pair: tuple[Path, Path], file: str
) -> str:
    """Check that both verbs refuse a folder in one sentence that names the file; return it."""
    began, before, out = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, folder / "out"
    code, said = verb(monkeypatch, capsys, "inpaint", *pair, "-o", out, "-n", 1, "--model", folder)
    assert (code, out.exists()) == (2, False)
    assert verb(monkeypatch, capsys, "info", folder) == (2, said)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # a gigabyte
    assert time.process_time() - began < 10
    (sentence,) = said.strip().splitlines()
    assert sentence.startswith(f"manifill: {folder / file}.safetensors: ")
    return sentence


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    folder: Path,
    photo_and_mask: tuple[Path, Path],
    name: str,
) -> None:
    file, change, words = STRANGERS[name]
    rewrite(folder / f"{file}.safetensors", change)
    assert words in refusals(monkeypatch, capsys, folder, photo_and_mask, file)


def test_weights_that_are_not_finite(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, folder: Path, photo_and_mask: tuple[Path, Path]
) -> None:
    rewrite(folder / "structure.safetensors", lambda head: None, nan=True)
    sentence = refusals(monkeypatch, capsys, folder, photo_and_mask, "structure")
    assert "condition.body.0.conv1.bias holds numbers that are not finite" in sentence


def test_weights_so_large_that_nothing_finite_comes_of_them(folder: Path, face: np.ndarray) -> None:
    path = folder / "texture.safetensors"
    header = read_header(folder, "texture")
    tensors = {key: tensor * 1e30 for key, tensor in load_file(path).items()}
    fields = {"format": "manifill-1", "network": "texture", "config": json.dumps(header.config), "image_size": "64"}
    save_file(tensors, path, {**fields, "codebook": header.codebook, "step": "0", "figures": "{}"})
    hole = np.zeros((64, 64), np.bool_)
    hole[20:40, 20:40] = True
    with pytest.raises(ModelError, match="the texture generator computes numbers that are not finite"):
        list(Inpainter.from_pretrained(folder)(face[:64, :64], hole, num_samples=1, seed=0))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.float64])
def test_tensors_of_another_kind(folder: Path, dtype: torch.dtype) -> None:
    path = folder / "texture.safetensors"
    tensors = load_file(path)
    tensors["image_quarter.bias"] = tensors["image_quarter.bias"].to(dtype)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"texture\.safetensors"):
        Inpainter.from_pretrained(folder)
    rewrite_fields(path, folder)
    with pytest.raises(ModelError, match=r"texture\.safetensors: image_quarter\.bias is .*expected one of F32"):
        Inpainter.from_pretrained(folder)


def rewrite_fields(path: Path, folder: Path) -> None:
    """Give a file the fields that its network's header has in the reference model."""
    fields = {"format": "manifill-1", "network": path.stem, "image_size": "64", "step": "0", "figures": "{}"}
    codebook = read_header(folder, "vqvae").codebook
    tensors, config = load_file(path), {"codebook_dim": 8, "width": 8, "attention": "full", "scores": "structural"}
    save_file(tensors, path, {**fields, "codebook": codebook, "config": json.dumps(config | {"fuse": True})})


def test_a_header_that_claims_gigabytes(folder: Path) -> None:
    (folder / "vqvae.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}" * 100)
    with pytest.raises(ModelError, match="claims more than 16 MiB"):
        Inpainter.from_pretrained(folder)


@pytest.mark.parametrize("name", ["u/r@x/../../y", "u/r@..", "u/r@a..b", "u/r@x/./y", "u/r@/x", "u/r@x//y", "u/r@x/"])
def test_revisions_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(ModelError, match="not the name of a repository"):
        parsed(name)
    assert parsed("hf://user/repo@feature/x-1.0_b") == ("user/repo", "feature/x-1.0_b")


def packed(folder: Path, out: Path) -> Path:
    """Write a model folder anew, as this version writes it."""
    pack(folder, out, half=False, sampling={})
    return out


def test_the_same_weights_have_one_name_and_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = packed(folder, tmp_path / "first"), packed(folder, tmp_path / "second")
    for path in first.glob("*.safetensors"):
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert model_hash(first) == model_hash(second) == model_hash(folder) == Inpainter.from_pretrained(folder).weights
    rewrite(first / "structure.safetensors", config(temperature=0.5))
    with pytest.raises(ModelError, match=r"structure\.safetensors: damaged"):
        model_hash(first)
    pack(folder, tmp_path / "third", half=False, sampling={"temperature": 0.5})
    pack(folder, tmp_path / "half", half=True, sampling={})
    assert len({model_hash(tmp_path / name) for name in ("second", "third", "half")}) == 3


def test_the_name_is_not_of_the_order_or_the_step(folder: Path, tmp_path: Path) -> None:
    model = VQVAE(load_networks(folder)["vqvae"][0].config)
    save_network(tmp_path / "a", "vqvae", model, 64, step=5)
    save_network(tmp_path / "b", "vqvae", model, 64, step=6, figures={"psnr": 20.0})
    tensors = dict(reversed(load_file(tmp_path / "b" / "vqvae.safetensors").items()))
    fields = {
        k: str(v) for k, v in vars(read_header(tmp_path / "b", "vqvae")).items() if k in ("image_size", "codebook")
    }
    values = dict(reversed(vars(model.config).items()))
    more = {"format": "manifill-1", "network": "vqvae", "step": "6", "figures": "{}", "config": json.dumps(values)}
    (tmp_path / "c").mkdir()
    save_file(tensors, tmp_path / "c" / "vqvae.safetensors", fields | more)
    assert len({model_hash(tmp_path / name) for name in "abc"}) == 1


def test_names_of_earlier_versions_are_understood(folder: Path, tmp_path: Path) -> None:
    former = former_hash(folder)
    assert former != model_hash(folder)
    assert is_named(folder, former)
    assert not is_named(folder, "0123456789abcdef")
    assert Inpainter.from_pretrained(folder).is_named(former)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\nWeights {former}.")
    assert former in published(folder, "user/repo", None)
    (folder / "README.md").write_text("---\nlicense: mit\n---\nWeights 0123456789abcdef.")
    with pytest.raises(ModelError, match=model_hash(folder)):
        published(folder, "user/repo", None)


def test_going_on_from_a_completion_of_an_earlier_version(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    folder: Path,
    photo_and_mask: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    words = ("inpaint", *photo_and_mask, "-n", 1, "--seed", 1, "--model", folder)
    assert verb(monkeypatch, capsys, *words, "-o", tmp_path / "out")[0] == 0
    manifest, result = tmp_path / "out" / "manifest.jsonl", tmp_path / "out" / "face_000.png"
    text = manifest.read_text()
    manifest.write_text(text.replace(model_hash(folder), former_hash(folder)))
    assert find_line(result)["model"].endswith(former_hash(folder))
    assert verb(monkeypatch, capsys, *words, "-o", tmp_path / "more", "--near", result)[0] == 0
    manifest.write_text(text.replace(model_hash(folder), "0123456789abcdef"))
    assert verb(monkeypatch, capsys, *words, "-o", tmp_path / "most", "--near", result)[0] == 2


@pytest.mark.parametrize("name", ["vqvae", "structure", "texture"])
def test_flipped_bits(folder: Path, tmp_path: Path, name: str) -> None:
    """A file of this version is refused, or says the same: bits flipped anywhere, and pieces cut out."""
    model = packed(folder, tmp_path / "packed")
    path, rng = model / f"{name}.safetensors", random.Random(name)
    whole, weights = path.read_bytes(), model_hash(model)
    head = struct.unpack("<Q", whole[:8])[0] + 8
    for k in range(40):
        data, place = bytearray(whole), rng.randrange(head if k % 2 else len(whole))
        if k % 5:
            data[place] ^= 1 << rng.randrange(8)
        else:
            del data[place : place + rng.randrange(1, 1000)]
        path.write_bytes(data)
        found, said = weights, ""
        try:
            found = Inpainter.from_pretrained(model).weights
        except ModelError as error:
            said = str(error)
        assert found == weights
        assert not said or (str(path) in said and len(said) < 500)
