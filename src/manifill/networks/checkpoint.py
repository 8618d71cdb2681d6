"""A model folder: one safetensors file a network with its whole configuration in the header, loaded strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from manifill.config import DiscriminatorConfig, StructureConfig, TextureConfig, VQVAEConfig, from_dict, to_dict
from manifill.networks.discriminator import Discriminator
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator
from manifill.networks.vqvae import VQVAE

FORMAT = "manifill-1"
NETWORKS = ("vqvae", "structure", "texture", "discriminator")


class ModelError(ValueError):
    """A model folder that cannot be used; the message names the file, what was found and what was expected."""


class WriteError(OSError):
    """A file that could not be written; the message names it and says why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: could not be written ({error.strerror or error}); what was there before is kept")


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that `path` holds either the old or the new content, whatever happens meanwhile.

    Raises WriteError, as for a full disk, and leaves nothing half written; what a kill leaves ends in .part.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        cause = _system_error(error) if isinstance(error, Exception) else None
        if cause is None:
            raise
        raise WriteError(path, cause) from error
    _sync_folder(path.parent)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the system that led to `error`: torch.save hides a full disk behind a RuntimeError."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _sync_folder(folder: Path) -> None:
    """Make the new name in a folder survive a power cut; only POSIX can be told so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def fingerprint(model: VQVAE) -> str:
    """Name the two codebooks: what a structure or texture generator was trained with."""
    digest = hashlib.sha256()
    for quantiser in (model.encoder.structure_quantiser, model.encoder.texture_quantiser):
        digest.update(quantiser.codebook.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_network(
    folder: Path,
    name: str,
    network: Any,
    image_size: int,
    step: int = 0,
    figures: dict[str, Any] | None = None,
    codebook: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `network` to `folder`/`name`.safetensors with its `config` in the header.

    `codebook` is the fingerprint of the VQ-VAE it belongs to; a VQ-VAE names its own. `dtype` is that of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "format": FORMAT,
        "network": name,
        "config": json.dumps(to_dict(network.config)),
        "image_size": str(image_size),
        "codebook": codebook or fingerprint(network),
        "step": str(step),
        "figures": json.dumps(figures or {}),
    }
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    write_atomic(folder / f"{name}.safetensors", lambda f: f.write(save(tensors, header)))


@dataclasses.dataclass(frozen=True)
class Header:
    """What a network file says of itself; `codebook` is the fingerprint of the VQ-VAE it belongs to."""

    path: Path
    config: dict[str, Any]
    image_size: int
    codebook: str
    step: int
    figures: dict[str, Any]


def read_header(folder: Path, name: str) -> Header:
    """Read the header of `folder`/`name`.safetensors. Raises ModelError when it is missing or not one of ours."""
    path = folder / f"{name}.safetensors"
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if not path.is_file():
        raise ModelError(f"{path}: missing; a model folder holds {', '.join(f'{n}.safetensors' for n in NETWORKS)}")
    try:
        with safe_open(path, framework="pt") as f:
            header = f.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    if header.get("format") != FORMAT or header.get("network") != name:
        found = f"format {header.get('format')!r}, network {header.get('network')!r}"
        raise ModelError(f"{path}: not a manifill network ({found}; expected format {FORMAT!r}, network {name!r})")
    return Header(
        path, json.loads(header["config"]), int(header["image_size"]), header["codebook"], int(header["step"]),
        json.loads(header["figures"]),
    )  # fmt: skip


def _load(folder: Path, name: str, build: Callable[[dict[str, Any]], nn.Module]) -> tuple[Any, Header]:
    header = read_header(folder, name)
    try:
        network = build(header.config)
        tensors = load_file(header.path)
        network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
    except (ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{header.path}: does not fit the configuration in its header ({error})") from error
    return network.eval().requires_grad_(False), header


def load_vqvae(folder: Path) -> tuple[VQVAE, Header]:
    """Load a VQ-VAE, frozen and in evaluation mode; its codebooks must be those its header names."""
    network, header = _load(folder, "vqvae", lambda c: VQVAE(from_dict(VQVAEConfig, c)))
    if fingerprint(network) != header.codebook:
        raise ModelError(f"{header.path}: codebooks {fingerprint(network)}, its header names {header.codebook}")
    return network, header


def load_structure(folder: Path, codebook: str) -> tuple[StructureGenerator, Header]:
    """Load a structure generator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    network, header = _load(folder, "structure", lambda c: StructureGenerator(from_dict(StructureConfig, c)))
    return network, _belongs(header, codebook)


def load_texture(folder: Path, codebook: str) -> tuple[TextureGenerator, Header]:
    """Load a texture generator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    network, header = _load(folder, "texture", lambda c: TextureGenerator(from_dict(TextureConfig, c)))
    return network, _belongs(header, codebook)


def load_discriminator(folder: Path, codebook: str) -> tuple[Discriminator, Header]:
    """Load a discriminator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    network, header = _load(folder, "discriminator", lambda c: Discriminator(from_dict(DiscriminatorConfig, c)))
    return network, _belongs(header, codebook)


def has_discriminator(folder: Path) -> bool:
    """Say whether a model folder holds a discriminator, which only training and choosing need."""
    return (folder / "discriminator.safetensors").is_file()


def _belongs(header: Header, codebook: str) -> Header:
    if header.codebook != codebook:
        raise ModelError(
            f"{header.path}: trained with the codebooks {header.codebook}, but the VQ-VAE beside it has {codebook}; "
            "networks of different runs cannot be combined"
        )
    return header


def model_hash(folder: Path) -> str:
    """Name the weights of a model folder: a hash over its network files."""
    digest = hashlib.sha256()
    for name in NETWORKS:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def parameters(header: Header) -> int:
    """Return how many numbers a network file holds."""
    with safe_open(header.path, framework="pt") as f:
        return sum(math.prod(f.get_slice(key).get_shape()) for key in f.keys())  # noqa: SIM118


def check_new(folder: Path) -> None:
    """Raise ModelError when something is in `folder` already."""
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder}: not empty; name a new folder (nothing was written)")


def load_networks(folder: Path) -> dict[str, tuple[Any, Header]]:
    """Load all networks of a model folder, the discriminator where there is one. Raises ModelError."""
    vqvae, header = load_vqvae(folder)
    codebook = header.codebook
    networks: dict[str, tuple[Any, Header]] = {"vqvae": (vqvae, header), "structure": load_structure(folder, codebook)}
    networks["texture"] = load_texture(folder, codebook)
    if has_discriminator(folder):
        networks["discriminator"] = load_discriminator(folder, codebook)
    return networks


def pack(folder: Path, out: Path, half: bool, sampling: dict[str, Any]) -> None:
    """Copy a model folder for release: `half` stores all but the VQ-VAE in 16 bits, `sampling` sets its own defaults.

    The copy's card names the copy's weights. Raises ModelError when `out` is not empty or `folder` not a whole model.
    """
    check_new(out)
    networks = load_networks(folder)
    codebook, structure = networks["vqvae"][1].codebook, networks["structure"][0]
    chosen = {k: v for k, v in sampling.items() if v is not None}
    structure.config = dataclasses.replace(structure.config, **chosen)
    for name, (network, header) in networks.items():
        dtype = torch.float16 if half and name != "vqvae" else torch.float32
        save_network(out, name, network, header.image_size, header.step, header.figures, codebook, dtype)
    card = folder / "README.md"
    if card.exists():
        changes = [*(["all but the VQ-VAE in 16 bits"] if half else []), *(f"{k} {v}" for k, v in chosen.items())]
        text = packed_card(card.read_text(encoding="utf-8"), model_hash(folder), model_hash(out), changes)
        write_atomic(out / "README.md", lambda f: f.write(text.encode()))


def packed_card(card: str, old: str, new: str, changes: list[str]) -> str:
    """Return a card of the weights `old` for their packed copy `new`; a card that does not name `old` stays."""
    packed = f"Weights {new}: {', '.join(['packed', *changes])}, from {old}, which the figures below are of"
    return card if old == new else card.replace(f"Weights {old}", packed, 1)
