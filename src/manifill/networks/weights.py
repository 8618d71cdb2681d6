"""The safetensors file of one network: read with distrust, named by what is in it, written the same each time."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from manifill.config import ModelError, StructureConfig
from manifill.networks.domain import Domain, domain_from_dict

FORMAT = "manifill-1"
HEADER_BYTES = 1 << 24  # the longest header that is read: about a hundred times a paper-sized network's
FIELD_BYTES = 1 << 20  # the longest field of our own in it
LARGEST_SIDE = 1024  # attention between all cells of a picture of this side takes a gigabyte
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FIELDS = {"format", "network", "config", "image_size", "codebook", "step", "figures"}
# fields that some files name and others, where they are off, do not
OFF = StructureConfig.RETIRED | StructureConfig.YOUNGER
DOMAIN = "domain"  # of the model, in the file of its VQ-VAE; models that were saved before it existed have none
DIGEST = "digest"  # of all that a file says; files older than it have none

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """What a network file says of itself; `codebook` is the fingerprint of the VQ-VAE it belongs to.

    `digest` is None in files that were written before there was one; `tensors` is the digest of the tensors, once read.
    """

    path: Path
    config: dict[str, Any]
    image_size: int
    codebook: str
    step: int
    figures: dict[str, Any]
    digest: str | None = None
    tensors: str | None = None
    domain: Domain | None = None


def read_file_header(path: Path, name: str) -> Header:
    """Read the header of a file of the network `name`. Raises ModelError that names the field at fault."""
    fields = _fields(path)
    if fields.get("format") != FORMAT or fields.get("network") != name:
        found = ", ".join(f"{kind} {fields.get(kind)!r:.40}" for kind in ("format", "network"))
        raise ModelError(f"{path}: not a manifill network ({found}; expected format {FORMAT!r}, network {name!r})")
    missing, foreign = sorted(FIELDS - fields.keys()), sorted(fields.keys() - FIELDS - {DIGEST, DOMAIN})
    if missing or foreign:
        said = [f"without {', '.join(missing)}"] * bool(missing) + [f"with unknown {', '.join(foreign)[:80]}"] * bool(
            foreign
        )
        raise ModelError(f"{path}: a damaged header, {' and '.join(said)}")
    side = _count(path, "image_size", fields["image_size"])
    if side % 8 or not 8 <= side <= LARGEST_SIDE:
        raise ModelError(f"{path}: image_size is {side}; expected a multiple of 8, up to {LARGEST_SIDE}")
    if not re.fullmatch("[0-9a-f]{16}", fields["codebook"]):
        raise ModelError(f"{path}: codebook is {fields['codebook'][:40]!r}; expected 16 hexadecimal digits")
    figures = _mapping(path, "figures", fields["figures"])
    odd = [key for key, value in figures.items() if type(value) not in (int, float)]
    if odd:
        raise ModelError(f"{path}: {odd[0][:40]} in its figures is {str(figures[odd[0]])[:40]!r}; expected a number")
    return Header(
        path,
        _mapping(path, "config", fields["config"]),
        side,
        fields["codebook"],
        _count(path, "step", fields["step"]),
        figures,
        fields.get(DIGEST),
        None,
        _domain(path, fields),
    )


def _fields(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, strings by name. Raises ModelError."""
    try:
        with path.open("rb") as f:
            start = f.read(8)
        if len(start) == 8 and struct.unpack("<Q", start)[0] > HEADER_BYTES:
            raise ModelError(f"{path}: its header claims more than {HEADER_BYTES >> 20} MiB; not a network's")
        with safe_open(path, framework="pt") as f:
            return f.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({str(error)[:200]})") from error


def _count(path: Path, name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", text):
        raise ModelError(f"{path}: {name} is {text[:40]!r}; expected a whole number")
    return int(text)


def _mapping(path: Path, name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if len(text) <= FIELD_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {name} is not readable JSON ({str(error)[:100]})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {name} is {text[:40]!r}; expected a JSON object of at most {FIELD_BYTES >> 20} MiB")
    return found


def _domain(path: Path, fields: Mapping[str, str]) -> Domain | None:
    if DOMAIN not in fields:
        return None
    try:
        return domain_from_dict(_mapping(path, DOMAIN, fields[DOMAIN]))
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path}: a domain that cannot be read ({str(error)[:200]})") from error


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's tensors, none of which is read. Raises ModelError for tensors of integers."""
    shapes = {}
    with safe_open(path, framework="pt") as f:
        for key in f.keys():  # noqa: SIM118
            part = f.get_slice(key)
            if part.get_dtype() not in DTYPES:
                raise ModelError(f"{path}: {key} is {part.get_dtype()}; expected one of {', '.join(DTYPES)}")
            shapes[key] = tuple(part.get_shape())
    return shapes


def compare_shapes(path: Path, stored: Shapes, expected: Shapes) -> None:
    """Raise ModelError for the first tensor that a file lacks, has too many, or has in another shape."""
    for key in sorted(expected.keys() | stored.keys()):
        found, wanted = stored.get(key), expected.get(key)
        if found != wanted:
            there = "missing" if found is None else f"of shape {list(found)}"
            right = "no such tensor" if wanted is None else f"shape {list(wanted)}"
            raise ModelError(
                f"{path}: does not fit the configuration in its header: {key[:100]} is {there}; expected {right}"
            )


def read_tensors(header: Header) -> tuple[dict[str, Tensor], str]:
    """Return a file's tensors, float32 and finite, and their digest. Raises ModelError that names what is wrong."""
    path = header.path
    with safe_open(path, framework="pt") as f:
        tensors = {key: f.get_tensor(key) for key in sorted(f.keys())}
        fields = f.metadata()
    digest = tensors_digest(tensors)
    if header.digest is not None and header.digest != file_digest(fields, digest):
        raise ModelError(f"{path}: damaged; its header or its weights are not those that were saved (digest)")
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if not np.isfinite(tensor.numpy()).all():  # in one thread: PyTorch's many take longer for many small tensors
            raise ModelError(f"{path}: {key} holds numbers that are not finite")
    return tensors, digest


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(fields: Mapping[str, str], tensors: str) -> str:
    """Return the digest that a file carries: of its header's fields, itself excepted, and of its tensors' digest."""
    return hashlib.sha256(
        (sorted_json({k: v for k, v in fields.items() if k != DIGEST}) + tensors).encode()
    ).hexdigest()


def weights_name(networks: Iterable[tuple[str, Header]]) -> str:
    """Name the weights of a model, given the name and header of each network.

    The name is of what decides the results: the sorted configuration, the picture's side and the tensors. Not of the
    step or the metrics, nor of the order in which a file holds them, nor of whether it names what is off.
    """
    digest = hashlib.sha256()
    for name, header in networks:
        config = sorted_json({k: v for k, v in header.config.items() if k not in OFF or v != OFF[k]})
        tensors = header.tensors or read_tensors(header)[1]
        digest.update(f"{name} {config} {header.image_size} {tensors}\n".encode())
    return digest.hexdigest()[:16]


def sorted_json(values: Mapping[str, Any]) -> str:
    """Return values as JSON, the same for the same values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def file_bytes(tensors: Mapping[str, Tensor], fields: Mapping[str, str]) -> bytes:
    """Return a safetensors file of tensors and of a header with its digest: the same bytes for the same values.

    The library writes the header's fields in a random order; here they are sorted. Raises FloatingPointError for a
    tensor that is not finite, such as one that does not fit into 16 bits.
    """
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise FloatingPointError(f"{key} holds numbers that are not finite, or too large for {tensor.dtype}")
    data = save(dict(tensors))
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8 : 8 + size])
    own = dict(fields) | {DIGEST: file_digest(fields, tensors_digest(tensors))}
    text = json.dumps({"__metadata__": dict(sorted(own.items()))} | entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]
