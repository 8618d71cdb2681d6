"""Model folders and checkpoints changed at random: a sentence that names the file, or the same weights, soon."""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifill import Inpainter
from manifill.cli.inpaint import info
from manifill.data.sources import DataError
from manifill.networks.checkpoint import ModelError, model_hash, pack
from manifill.train import resume

NETWORKS = ("vqvae", "structure", "texture", "discriminator")
ODD: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    3,
    7,
    1.5,
    1e300,
    -1e-320,
    2**31,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "8",
    "x" * 100_000,
    "\0",
    "\udce9",
    "../..",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    [0] * 1000,
]
CODE, LETTERS = (
    ("os.system", "__import__('os')", "cos\nsystem\n(S'true'\ntR."),
    "abcdefghijklmnopqrstuvwxyz._0123456789",
)


def changed_value(rng: random.Random, value: Any) -> Any:
    """Return another value in the place of one, mostly of its kind."""
    if isinstance(value, bool | str) or rng.random() < 0.5 or not isinstance(value, int | float):
        return rng.choice([*ODD, *CODE])
    return type(value)(value * rng.choice([-1, 0, 2, 1000])) + rng.choice([-1, 0, 1])


def changed_config(rng: random.Random, fields: dict[str, str]) -> None:
    """Change, remove or add settings of a network."""
    config = json.loads(fields["config"])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        name = rng.choice([*config, "".join(rng.choices(LETTERS, k=5))])
        if rng.random() < 0.2:
            config.pop(name, None)
        else:
            config[name] = changed_value(rng, config.get(name, 1))
    fields["config"] = json.dumps(config)


def changed_head(rng: random.Random, head: dict[str, Any]) -> None:
    """Change what a safetensors file says: its fields, or its tensors' names, types, shapes and places."""
    fields, tensors = head["__metadata__"], [name for name in head if name != "__metadata__"]
    kind, name = rng.randrange(7), rng.choice(tensors)
    if kind < 2:
        changed_config(rng, fields)
    elif kind == 2:
        field = rng.choice([*fields, "other"])
        odd = rng.choice([*ODD, *CODE])
        fields[field] = odd if isinstance(odd, str) else json.dumps(odd)
    elif kind == 3:
        fields.pop(rng.choice(list(fields)))
    elif kind == 4:
        head[name] = head.pop(name) | {"dtype": rng.choice(["F64", "I64", "U8", "F16", "BOOL", "F8_E4M3", "X"])}
    elif kind == 5:
        shape = [size * rng.choice([1, 2, 0, 1 << 40]) for size in head[name]["shape"]] + rng.choice([[], [1]])
        head[name] = head[name] | {"shape": shape}
    else:
        head[rng.choice([name + "x", rng.choice(tensors)])] = head.pop(name)


def changed_file(rng: random.Random, data: bytes, head: int) -> bytes:
    """Return a file with flipped bits, cut short, longer, with pieces missing or repeated, or of noise."""
    kind, place, more = rng.randrange(7), rng.randrange(len(data)), rng.randrange(1, 3000)
    if kind < 2:
        flipped = bytearray(data)
        for _ in range(rng.choice([1, 1, 8])):
            flipped[rng.randrange(head if kind else len(data))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    return {
        2: data[:place],
        3: data + rng.randbytes(more),
        4: data[:place] + data[place + more :],
        5: data[:place] + data[max(0, place - more) :],
        6: rng.choice([b"", b"\0" * more, rng.randbytes(more), struct.pack("<Q", more) + data[8:]]),
    }[kind]


def changed_model(rng: random.Random, folder: Path) -> None:
    """Change one file of a model folder."""
    path = folder / f"{rng.choice(NETWORKS)}.safetensors"
    data, kind = path.read_bytes(), rng.random()
    size = struct.unpack("<Q", data[:8])[0]
    if kind < 0.55:
        head = json.loads(data[8 : 8 + size])
        changed_head(rng, head)
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    elif kind < 0.6:  # weights that are no numbers, or nearly so
        floats = np.frombuffer(data[8 + size :], np.float32).copy()
        floats[rng.randrange(floats.size) :] = rng.choice([np.nan, np.inf, 3e38, 0])
        path.write_bytes(data[: 8 + size] + floats.tobytes())
    elif kind < 0.65:  # another's file
        shutil.copy(folder / f"{rng.choice(NETWORKS)}.safetensors", path.with_suffix(".other"))
        path.with_suffix(".other").replace(path)
    elif kind < 0.7:
        path.unlink()
        rng.choice([lambda: None, path.mkdir, lambda: path.symlink_to(path), lambda: path.symlink_to("/dev/zero")])()
    else:
        path.write_bytes(changed_file(rng, data, size + 8))


def within(began: float, before: int) -> None:
    """Check that no case took ten seconds or a gigabyte."""
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20


def fuzz_models(model: Path, work: Path, face: np.ndarray, cases: range) -> None:
    """Change a model folder so often; one that is still read has the same name, or completes a photo."""
    hole = np.zeros((64, 64), np.bool_)
    hole[16:40, 16:40] = True
    sealed = work / "sealed"  # with a digest, as this version writes them; the reference model is older
    pack(model, sealed, half=False, sampling={})
    bare = shutil.copytree(sealed, work / "bare")
    (bare / "discriminator.safetensors").unlink()
    names = {True: model_hash(sealed), False: model_hash(bare)}  # a model need not have a discriminator
    for k in cases:
        rng, folder, source = random.Random(k), work / "changed", sealed if k % 2 else model
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        changed_model(rng, folder)
        began, before, found, said = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "", []
        try:
            inpainter = Inpainter.from_pretrained(folder)
            found = inpainter.weights
            list(inpainter(face[:64, :64], hole, num_samples=1, seed=0))
        except ModelError as error:
            said.append(str(error))
        if k % 10 == 0:
            try:
                info(str(folder))
            except ModelError as error:
                said.append(str(error))
        for sentence in said:
            assert str(folder) in sentence, k
            assert len(sentence) < 700, k
            assert sentence.isprintable(), k
        if source == sealed and found:
            wanted = names[(folder / "discriminator.safetensors").is_file()]
            assert found == wanted, f"case {k} was read as other weights"
        within(began, before)


class Part:
    """A part of a stage that keeps what it is given."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state, self.loaded = state, None

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.loaded = state_dict


def fuzz_checkpoints(work: Path, count: int) -> None:
    """Change a checkpoint so often; one that is still read holds what was saved."""
    path, network = work / "checkpoint.pt", torch.nn.Linear(20, 30)
    state = {"network": Part(network.state_dict()), "scaler": Part({"scale": 1.0, "steps": 3})}
    resume.save_checkpoint(state, path, 7, {"loss": 0.5})
    whole, refused = path.read_bytes(), 0
    for k in range(count):
        rng, said, began, found = random.Random(k), "", time.process_time(), None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        path.write_bytes(changed_file(rng, whole, len(whole) // 4))
        parts = {name: Part({}) for name in state}
        try:
            found = resume.load_checkpoint(parts, path)
        except DataError as error:
            said = str(error)
        within(began, before)
        if said:
            assert said.startswith(f"{path}: "), k
            refused += 1
            continue
        assert found == (7, {"loss": 0.5}), k
        assert parts["scaler"].loaded == state["scaler"].state, k
        for key, tensor in network.state_dict().items():
            assert torch.equal(parts["network"].loaded[key], tensor), k  # type: ignore[index]
    assert refused > count // 2


@pytest.mark.parametrize("cases", [range(10), range(146, 147), range(251, 252)], ids=["first", "long", "bare"])
def test_changed_models(reference_model: Path, tmp_path: Path, face: np.ndarray, cases: range) -> None:
    """Some of all, and two that were found: a field of 100,000 letters, no discriminator."""
    fuzz_models(reference_model, tmp_path, face, cases)


def test_changed_checkpoints(tmp_path: Path) -> None:
    fuzz_checkpoints(tmp_path, 100)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_a_thousand_changed_models(reference_model: Path, tmp_path: Path, face: np.ndarray, first: int) -> None:
    fuzz_models(reference_model, tmp_path, face, range(first, first + 250))


@pytest.mark.slow
def test_a_thousand_changed_checkpoints(tmp_path: Path) -> None:
    fuzz_checkpoints(tmp_path, 1000)
