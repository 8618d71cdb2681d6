"""A model folder: one safetensors file a network with its whole configuration in the header, loaded strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.overrides import TorchFunctionMode

from manifill.config import (
    NETWORKS,
    DiscriminatorConfig,
    ModelError,
    StructureConfig,
    TextureConfig,
    VQVAEConfig,
    from_dict,
    to_dict,
)
from manifill.networks.atomic import write_atomic
from manifill.networks.discriminator import Discriminator
from manifill.networks.domain import Domain
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.networks.weights import (
    FORMAT,
    Header,
    compare_shapes,
    file_bytes,
    read_file_header,
    read_tensors,
    stored_shapes,
    weights_name,
)


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
    domain: Domain | None = None,
) -> None:
    """Write `network` to `folder`/`name`.safetensors with its `config` in the header.

    `codebook` is the fingerprint of the VQ-VAE it belongs to; a VQ-VAE names its own. `dtype` is that of the file.
    `domain` is the model's; a VQ-VAE's file holds it.
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
    if domain is not None:
        header["domain"] = json.dumps(to_dict(domain))
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    path = folder / f"{name}.safetensors"
    try:
        data = file_bytes(tensors, header)
    except FloatingPointError as error:
        raise ModelError(f"{path}: not written, {error}; what was there before is kept") from None
    write_atomic(path, data)


def read_header(folder: Path, name: str) -> Header:
    """Read the header of `folder`/`name`.safetensors. Raises ModelError when it is missing or not one of ours."""
    path = folder / f"{name}.safetensors"
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if not path.is_file():
        raise ModelError(f"{path}: missing; a model folder holds {', '.join(f'{n}.safetensors' for n in NETWORKS)}")
    return read_file_header(path, name)


BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "vqvae": lambda c: VQVAE(from_dict(VQVAEConfig, c)),
    "structure": lambda c: StructureGenerator(from_dict(StructureConfig, c)),
    "texture": lambda c: TextureGenerator(from_dict(TextureConfig, c)),
    "discriminator": lambda c: Discriminator(from_dict(DiscriminatorConfig, c)),
}


class Undrawn(TorchFunctionMode):
    """Leaves out the random start of weights: on the meta device it does nothing, and loads PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, nn.init.uniform_, torch.Tensor.normal_, torch.Tensor.uniform_):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def unfilled(header: Header, name: str) -> Any:
    """Build a network without memory for its tensors. Raises ModelError unless the file's are those it needs."""
    try:
        stored = stored_shapes(header.path)
        layers = max(header.config.get(k, 1) for k in ("layers", "output_blocks"))
        if isinstance(layers, int) and layers > len(stored):  # a network that takes long to build is not built
            raise ValueError(f"{layers} layers in {len(stored)} tensors")
        with torch.device("meta"), Undrawn():
            network = BUILDERS[name](header.config)
    except ModelError:
        raise
    except (ValueError, TypeError, ArithmeticError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{header.path}: does not fit the configuration in its header ({str(error)[:200]})") from error
    compare_shapes(header.path, stored, {k: tuple(v.shape) for k, v in network.state_dict().items()})
    return network


def load_network(folder: Path, name: str, codebook: str | None = None) -> tuple[Any, Header]:
    """Load one network of a model folder, frozen and in evaluation mode, of any VQ-VAE or that with this `codebook`.

    Raises ModelError.
    """
    header = read_header(folder, name)
    network = unfilled(header, name)
    try:
        tensors, digest = read_tensors(header)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{header.path}: cannot be read ({str(error)[:200]})") from error
    network.load_state_dict(tensors, strict=True, assign=True)
    if codebook not in (None, header.codebook):
        raise ModelError(
            f"{header.path}: trained with the codebooks {header.codebook}, but the VQ-VAE beside it has {codebook}; "
            "networks of different runs cannot be combined"
        )
    return network.eval().requires_grad_(False), dataclasses.replace(header, tensors=digest)


def load_vqvae(folder: Path) -> tuple[VQVAE, Header]:
    """Load a VQ-VAE, frozen and in evaluation mode; its codebooks must be those its header names."""
    network, header = load_network(folder, "vqvae")
    if fingerprint(network) != header.codebook:
        raise ModelError(f"{header.path}: codebooks {fingerprint(network)}, its header names {header.codebook}")
    return network, header


def load_structure(folder: Path, codebook: str) -> tuple[StructureGenerator, Header]:
    """Load a structure generator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    return load_network(folder, "structure", codebook)


def load_texture(folder: Path, codebook: str) -> tuple[TextureGenerator, Header]:
    """Load a texture generator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    return load_network(folder, "texture", codebook)


def load_discriminator(folder: Path, codebook: str) -> tuple[Discriminator, Header]:
    """Load a discriminator that belongs to the VQ-VAE with this codebook fingerprint, else raise ModelError."""
    return load_network(folder, "discriminator", codebook)


def model_hash(folder: Path) -> str:
    """Name the weights of a model folder by what is in them, in whatever order it is stored. Raises ModelError."""
    return weights_name([(name, read_header(folder, name)) for name in present(folder)])


def present(folder: Path) -> list[str]:
    """Return the names of the networks that a model folder holds."""
    return [name for name in NETWORKS if (folder / f"{name}.safetensors").is_file()]


def former_hash(folder: Path) -> str:
    """Name the weights of a model folder as versions up to 0.1 did: by the bytes of its files.

    Cards, manifests and settings of runs that name a model so stay readable as long as its files are not written anew.
    """
    digest = hashlib.sha256()
    for name in present(folder):
        digest.update((folder / f"{name}.safetensors").read_bytes())
    return digest.hexdigest()[:16]


def is_named(folder: Path, name: str | None) -> bool:
    """Say whether `name` names the weights of a model folder, as `model_hash` does or as earlier versions did."""
    return name is not None and name in (model_hash(folder), former_hash(folder))


def parameters(header: Header) -> int:
    """Return how many numbers a network file holds."""
    return sum(math.prod(shape) for shape in stored_shapes(header.path).values())


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
    if "discriminator" in present(folder):  # which training alone needs
        networks["discriminator"] = load_discriminator(folder, codebook)
    return networks


def pack(folder: Path, out: Path, half: bool, sampling: dict[str, Any], domain: Domain | None = None) -> None:
    """Copy a model folder for release: `half` stores all but the VQ-VAE in 16 bits, `sampling` sets its own defaults.

    `domain`, where given, takes the place of what the model says of its pictures.

    The copy's card names the copy's weights. Raises ModelError when `out` is not empty or `folder` not a whole model.
    """
    check_new(out)
    networks = load_networks(folder)
    codebook, structure = networks["vqvae"][1].codebook, networks["structure"][0]
    chosen = {k: v for k, v in sampling.items() if v is not None}
    structure.config = dataclasses.replace(structure.config, **chosen)
    for name, (network, header) in networks.items():
        dtype = torch.float16 if half and name != "vqvae" else torch.float32
        save_network(
            out,
            name,
            network,
            header.image_size,
            header.step,
            header.figures,
            codebook,
            dtype,
            domain if domain is not None and name == "vqvae" else header.domain,
        )
    card = folder / "README.md"
    if card.exists():
        changes = [*(["all but the VQ-VAE in 16 bits"] if half else []), *(f"{k} {v}" for k, v in chosen.items())]
        text, former, now = card.read_text(encoding="utf-8"), former_hash(folder), model_hash(out)
        old = former if f"Weights {former}" in text else model_hash(folder)
        text = packed_card(text, old, now, changes)
        write_atomic(out / "README.md", text)


def packed_card(card: str, old: str, new: str, changes: list[str]) -> str:
    """Return a card of the weights `old` for their packed copy `new`; a card that does not name `old` stays."""
    packed = f"Weights {new}: {', '.join(['packed', *changes])}, from {old}, which the figures below are of"
    return card if old == new else card.replace(f"Weights {old}", packed, 1)
