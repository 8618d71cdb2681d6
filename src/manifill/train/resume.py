"""A stage's checkpoint: written whole or not at all, read only where every byte of it is what was written."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from manifill.data.sources import DataError
from manifill.networks.atomic import write_atomic
from manifill.train.logs import holds

ANEW = "remove it to begin this stage anew"


class Stateful(Protocol):
    """What a checkpoint can hold: a network, an optimiser, a gradient scaler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def save_checkpoint(state: Mapping[str, Stateful], path: Path, step: int, figures: dict[str, Any]) -> None:
    """Write a checkpoint in the place of the last one.

    Raises FloatingPointError, and keeps the last one, where a parameter is not finite or anything else not a number.
    """
    saved = {name: part.state_dict() for name, part in state.items()}
    parameters = {
        f"{k}.{name}" for k, m in state.items() if isinstance(m, nn.Module) for name, _ in m.named_parameters()
    }
    for key, tensor in _tensors(saved, ""):
        if tensor.isnan().any() or (key in parameters and tensor.isinf().any()):
            raise FloatingPointError(f"{key} is not finite at step {step}; the last checkpoint is kept")
    write_atomic(path, lambda f: torch.save({"step": step, "figures": figures, "state": saved}, f))


def load_checkpoint(state: Mapping[str, Stateful], path: Path) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into `state`; return its step and metrics, (0, {}) where there is none.

    Raises DataError, before anything is loaded, for a damaged file and for what is no checkpoint of this stage.
    """
    if not path.exists():
        return 0, {}
    _check_bytes(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not a readable checkpoint; {ANEW} ({str(error)[:200]})") from error
    if not holds(saved, {"step": int, "figures": dict, "state": dict}):
        raise DataError(f"{path}: not a checkpoint of this program; {ANEW}")
    if saved["state"].keys() != state.keys():
        raise DataError(
            f"{path}: holds {', '.join(map(str, saved['state']))[:100]}; expected {', '.join(state)}, so it is not of "
            f"this stage; {ANEW}"
        )
    for name, part in state.items():
        try:
            part.load_state_dict(saved["state"][name])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            said = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: {name} in it is of other settings; {ANEW} ({said})") from error
    return saved["step"], saved["figures"]


def _check_bytes(path: Path) -> None:
    """Raise DataError unless every part of the file has the checksum (CRC-32) that was written with it.

    torch.save writes an archive with checksums; torch.load does not compare them and takes weights with a flipped bit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable checkpoint; {ANEW} ({str(error)[:200]})") from error
    if damaged is not None:
        raise DataError(f"{path}: damaged, {damaged[-80:]} does not have its checksum; {ANEW}")


def _tensors(values: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) of all tensors in nested states."""
    if isinstance(values, Tensor):
        yield prefix, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _tensors(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list | tuple):
        for k, value in enumerate(values):
            yield from _tensors(value, f"{prefix}.{k}")
