"""What CUDA graphs ask of training and sampling, shown without a GPU: the same memory at every call, nothing looked at.

Two stand-ins that behave as graphs do. `Overwritten` compiles a network and, as torch.compile's "reduce-overhead" may,
destroys what it returned when it is called again. `Tape` records calls and makes them anew on the memory of the first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path[:0] = [str(Path(__file__).parent / "train"), str(Path(__file__).parents[1] / "benchmarks")]

import gpu  # noqa: E402
from test_distributed import STAGES, advance  # noqa: E402
from training import SEEN  # noqa: E402

from manifill.config import SamplingOptions  # noqa: E402
from manifill.networks.structure import StructureGenerator  # noqa: E402
from manifill.sampling.cached import sample_rows  # noqa: E402
from manifill.sampling.naive import gumbel_noise  # noqa: E402
from manifill.train.distributed import Processes  # noqa: E402
from manifill.train.presets import PRESETS  # noqa: E402

OPTIONS = [SamplingOptions(), SamplingOptions(0.8, 20, 0.9)]


class Overwritten:
    """A compiler whose networks' results and gradients are destroyed when the next forward pass begins."""

    def __init__(self) -> None:
        from torch._dynamo.backends.common import aot_autograd

        self.kept: list[Tensor] = []
        self.calls = 0
        self.compiler = aot_autograd(fw_compiler=self.forward, bw_compiler=self.compiled)

    def compiled(self, module: Callable[..., Any], _: object) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found = module(*args)
            given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
            results = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
            # another Tensor of the same memory: to hold the result itself would keep it from becoming a gradient
            self.kept += [x.detach() for x in results if x.untyped_storage().data_ptr() not in given]
            return found

        return make_boxed_func(call)

    def forward(self, module: Callable[..., Any], _: object) -> Callable[..., Any]:
        inner = self.compiled(module, _)

        def call(*args: Any) -> Any:
            self.calls += 1
            for x in self.kept:
                x.fill_(torch.nan if x.is_floating_point() else 0)
            self.kept = []
            return inner(list(args))

        return make_boxed_func(call)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_step_needs_nothing_of_the_one_before(name: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `--compile` may use CUDA graphs, whose memory is that of the next step as well."""
    wanted = advance(name, pictures)
    backend, compile = Overwritten(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **_: compile(network, backend=backend.compiler))
    found = advance(name, pictures, Processes(None, 1, True))
    assert backend.calls >= 4
    assert found["figures"] == pytest.approx(wanted["figures"], rel=1e-4)


class Tape(TorchDispatchMode):
    """Records calls; `replay` makes them again, their results in the memory of the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        assert func._opname not in SEEN, f"{func} waits for the device"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or changed in place
                    old.copy_(new)


def compared(options: SamplingOptions, capture: gpu.Capture, device: str) -> None:
    """Sample with and without graphs of rounds: the same codes and likelihoods."""
    c = PRESETS["tiny"].model.structure
    model, codebook = StructureGenerator(c).eval(), torch.randn(c.codebook_size, c.codebook_dim)
    for p in model.parameters():
        p.data.mul_(1.5)  # so that codes depend on each other, and rows take several rounds
    known = torch.full((1, 8, 8), -1)
    known[:, :2], known[:, 5, :3] = 3, 7
    cond, noise = torch.randn(1, 8 * c.condition_width, 8, 8), gumbel_noise(range(3), 64, c.codebook_size)
    given = (model.to(device), *(x.to(device) for x in (codebook, cond, noise)), options, known.to(device))
    wanted = sample_rows(*given)
    with gpu.graphed_rounds(capture):
        found = sample_rows(*given)
    assert torch.equal(found.codes, wanted.codes)
    assert torch.equal(found.log_likelihood, wanted.log_likelihood)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_rounds_of_a_row_can_be_a_graph(options: SamplingOptions) -> None:
    replays = 0

    def taped(work: Callable[[], None]) -> Callable[[], None]:
        tape = Tape()
        with tape:
            work()

        def replay() -> None:
            nonlocal replays
            replays += 1
            tape.replay()

        return replay

    compared(options, taped, "cpu")
    assert replays > 6


@pytest.mark.cuda
@pytest.mark.parametrize("options", OPTIONS)
def test_the_rounds_of_a_row_are_a_cuda_graph(options: SamplingOptions) -> None:
    compared(options, gpu.cuda_graph, "cuda")
