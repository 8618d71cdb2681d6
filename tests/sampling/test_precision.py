"""The same codes on every device: what they depend on is computed in IEEE float32, where CUDA would round to TF32."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from manifill import Inpainter
from manifill.config import SamplingOptions
from manifill.networks.precision import exact_float32, switches
from manifill.photos.tensors import to_tensor
from manifill.sampling.cached import sample_rows
from manifill.sampling.naive import gumbel_noise
from manifill.train.sampled_codes import CodeSampler

FAST = {"fp32_precision": "tf32", "allow_tf32": True}


def allowed() -> list[object]:
    return [getattr(where, name) for where, name, _ in switches()]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions that round their inputs to TF32 unless told otherwise, as on CUDA."""
    before, real = allowed(), F.conv2d
    for where, name, _ in switches():
        setattr(where, name, FAST[name])

    def rounded(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return x
        return ((x.contiguous().view(torch.int32) + (1 << 12)) & -(1 << 13)).view(torch.float32)

    def conv2d(x: Tensor, weight: Tensor, *rest: Any, **more: Any) -> Tensor:
        if allowed()[0] in FAST.values():
            x, weight = rounded(x), rounded(weight)
        return real(x, weight, *rest, **more)

    monkeypatch.setattr(F, "conv2d", conv2d)
    yield
    for (where, name, _), value in zip(switches(), before, strict=True):
        setattr(where, name, value)


@pytest.fixture
def asked(inpainter: Inpainter, face: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable]:
    """What codes depend on, and painting."""
    codebook = inpainter.vqvae.encoder.structure_quantiser.codebook
    monkeypatch.setitem(vars(inpainter), "sampler", partial(sample_rows, inpainter.structure, codebook))  # as on CUDA
    image = to_tensor(face[32:96, 32:96])
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 16:40] = 1
    cond = inpainter.condition(image, mask)
    codes = inpainter.vqvae.encode(image).structure_codes
    noise = gumbel_noise([3], codes[0].numel(), len(codebook))
    in_training = CodeSampler(inpainter.structure, inpainter.vqvae, torch.device("cpu"))
    in_training.sample = inpainter.sampler
    return {
        "condition": lambda: inpainter.condition(image, mask),
        "known": lambda: inpainter.known(image, mask, "cells"),
        "logits": lambda: inpainter.logits(codes, cond),
        "log_likelihood": lambda: inpainter.log_likelihood(codes, cond),
        "familiarity": lambda: inpainter.familiarity(image, mask)[1],
        "sample": lambda: inpainter.sample(cond, None, noise, SamplingOptions()).log_likelihood,
        "training": lambda: in_training.codes(image, mask, codes, torch.tensor([3])),
        "painting": lambda: inpainter.decode_structure(codes),
    }


def test_what_codes_depend_on_is_not_rounded(asked: dict[str, Callable], request: pytest.FixtureRequest) -> None:
    exact = {name: compute() for name, compute in asked.items()}
    request.getfixturevalue("fast")
    before = allowed()
    found = {name: compute() for name, compute in asked.items()}
    assert allowed() == before
    same = {name for name in asked if torch.equal(exact[name], found[name])}
    assert same == set(asked) - {"painting"}  # which may be fast: that it differs shows what rounding would do


def test_two_threads_inside_at_once_leave_it_as_it_was(fast: None) -> None:
    first_is_in, second_is_out = threading.Event(), threading.Event()
    seen: list[list[object]] = []

    def first() -> None:
        with exact_float32:
            first_is_in.set()
            second_is_out.wait(10)
            seen.append(allowed())

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(10)
    with exact_float32:
        seen.append(allowed())
    second_is_out.set()
    thread.join()
    exact = [value for _, _, value in switches()]
    assert seen == [exact, exact]
    assert allowed() == [FAST[name] for _, name, _ in switches()]


@pytest.mark.cuda
def test_cuda_draws_the_codes_of_the_cpu(face: np.ndarray) -> None:
    mask = np.zeros(face.shape[:2], bool)
    mask[32:96, 32:96] = True
    cpu, cuda = (
        np.stack([c.codes for c in Inpainter.from_pretrained("faces-128", device)(face, mask, num_samples=32, seed=0)])
        for device in ("cpu", "cuda")
    )
    assert (cpu == cuda).all((1, 2, 3)).sum() >= 31  # one near tie, of sums in another order, is no fault
