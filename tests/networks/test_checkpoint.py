"""Model folders: what is saved is what is loaded, and what does not belong together is refused."""

from __future__ import annotations

import shutil
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from manifill.config import StructureConfig, from_dict, to_dict
from manifill.inpainter import Inpainter, find_model
from manifill.networks.checkpoint import (
    ModelError,
    fingerprint,
    load_structure,
    load_texture,
    load_vqvae,
    model_hash,
    pack,
    read_header,
    save_network,
)
from manifill.networks.vqvae import VQVAE
from manifill.train.presets import PRESETS
from manifill.train.settings import same_sizes


@pytest.fixture
def folder(tmp_path: Path, reference_model: Path) -> Path:
    return Path(shutil.copytree(reference_model, tmp_path / "model"))


def test_save_and_load(tmp_path: Path) -> None:
    model = VQVAE(PRESETS["tiny"].model.vqvae).eval()
    save_network(tmp_path, "vqvae", model, 64, step=5, figures={"psnr": 30.5})
    loaded, header = load_vqvae(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.encode(image).texture, loaded.encode(image).texture)
    assert (loaded.config, header.image_size, header.step, header.figures) == (model.config, 64, 5, {"psnr": 30.5})
    assert header.codebook == fingerprint(model)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_foreign_codebook(folder: Path) -> None:
    other = VQVAE(load_vqvae(folder)[0].config)
    save_network(folder, "vqvae", other, 64)
    with pytest.raises(ModelError, match=r"structure\.safetensors.*cannot be combined"):
        Inpainter.from_pretrained(folder)


@pytest.mark.parametrize("name", ["vqvae", "structure", "texture"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / f"{name}.safetensors").unlink()
    with pytest.raises(ModelError, match=rf"{name}\.safetensors: missing"):
        Inpainter.from_pretrained(folder)


def test_truncated_file(folder: Path) -> None:
    path = folder / "texture.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"texture\.safetensors"):
        Inpainter.from_pretrained(folder)


def test_foreign_file(folder: Path) -> None:
    save_file({"a": torch.zeros(2)}, folder / "structure.safetensors")
    with pytest.raises(ModelError, match=r"structure\.safetensors: not a manifill network"):
        Inpainter.from_pretrained(folder)


def test_network_under_another_name(folder: Path) -> None:
    shutil.copy(folder / "texture.safetensors", folder / "structure.safetensors")
    with pytest.raises(ModelError, match="expected format 'manifill-1', network 'structure'"):
        Inpainter.from_pretrained(folder)


@pytest.mark.parametrize("change", ["drop", "add", "reshape"])
def test_loading_is_strict(folder: Path, change: str) -> None:
    path, codebook = folder / "texture.safetensors", read_header(folder, "texture").codebook
    model, _ = load_texture(folder, codebook)
    state = model.state_dict()
    if change == "drop":
        state.pop("image_quarter.bias")
    elif change == "add":
        state["extra"] = torch.zeros(1)
    else:
        state["image_quarter.bias"] = torch.zeros(3)
    fake = type("Fake", (), {"config": model.config, "state_dict": lambda self: state})()
    save_network(folder, "texture", fake, 64, codebook=codebook)
    with pytest.raises(ModelError, match=str(path)):
        load_texture(folder, codebook)


def test_pack_halves_all_but_the_codebooks(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack(folder, out, half=True, sampling={"temperature": 0.8, "top_p": None})
    codebook = read_header(out, "vqvae").codebook
    assert codebook == read_header(folder, "vqvae").codebook
    assert load_structure(out, codebook)[0].config.temperature == 0.8
    assert {v.dtype for v in load_file(out / "structure.safetensors").values()} == {torch.float16}
    assert model_hash(out) != model_hash(folder)
    assert Inpainter.from_pretrained(out).options().temperature == 0.8
    with pytest.raises(ModelError, match="not empty"):
        pack(folder, out, half=True, sampling={})


@pytest.mark.parametrize("name", list(PRESETS))
def test_config_round_trip(name: str) -> None:
    config = PRESETS[name].model.structure
    assert from_dict(StructureConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match=r"unknown fields \['wide'\]"):
        from_dict(StructureConfig, to_dict(config) | {"wide": 1})


@pytest.mark.parametrize("name", ["reference", "faces-128"])
def test_headers_of_earlier_versions_load(name: str, reference_model: Path) -> None:
    folder = reference_model if name == "reference" else find_model(name)
    header = read_header(folder, "structure")
    model, _ = load_structure(folder, load_vqvae(folder)[1].codebook)
    assert same_sizes(model, header, model.config) is model
    with pytest.raises(ModelError, match="layers"):
        same_sizes(model, header, replace(model.config, layers=99))


def test_what_an_earlier_version_could_and_this_one_cannot_is_refused_by_name(folder: Path) -> None:
    values = to_dict(PRESETS["tiny"].model.structure)
    assert from_dict(StructureConfig, values | {"guidance": 0.0, "unconditional": False}) == from_dict(
        StructureConfig, values
    )
    with pytest.raises(ValueError, match="missing fields"):
        from_dict(StructureConfig, {k: v for k, v in values.items() if k != "layers"})
    model, header = load_structure(folder, read_header(folder, "vqvae").codebook)
    config = to_dict(model.config) | {"unconditional": True}
    fake = type("Fake", (), {"config": named(config), "state_dict": lambda self: model.state_dict()})()
    save_network(folder, "structure", fake, 64, codebook=header.codebook)
    with pytest.raises(ModelError, match=r"structure\.safetensors: .*unconditional is True; this version knows False"):
        Inpainter.from_pretrained(folder)


def named(values: dict) -> Any:
    """A dataclass with these values."""
    return make_dataclass("Config", values)(**values)


def test_paper_sizes() -> None:
    """The parameter counts that the paper's networks have at full size, weight normalisation included."""
    from manifill.networks.structure import StructureGenerator
    from manifill.networks.texture import TextureGenerator
    from manifill.train.weight_norm import weight_normalise

    model = PRESETS["paper-256"].model
    structure, texture = weight_normalise(StructureGenerator(model.structure)), TextureGenerator(model.texture)

    def millions(m: torch.nn.Module) -> float:
        return round(sum(p.numel() for p in m.parameters()) / 1e6, 1)

    assert (millions(structure.condition), millions(structure.pixelcnn), millions(texture)) == (37.0, 26.8, 4.6)
