"""How a step's batch is divided: over processes (devices, machines), and in each into shares one after another.

The batch stays one whole: what is random is drawn for all of it and what is summed is summed over all of it, so that
the weights depend on how it is divided by rounding alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = timedelta(hours=2)  # the other processes wait while the first one validates, draws previews and writes


@dataclass(frozen=True)
class Share:
    """Rows `start` and following of a step's batch of `whole` pictures.

    `image` (n, 3, H, W) in [-1, 1]; `mask` (n, 1, H, W), 1 in the hole, or (n, 0, H, W) for a stage without masks.
    """

    image: Tensor
    mask: Tensor
    start: int
    whole: int

    def rows(self, x: Tensor) -> Tensor:
        """Return this share's rows of what was drawn for the whole batch."""
        return x[self.start : self.start + len(self.image)]

    def split(self, count: int) -> list[Share]:
        """Divide into `count` shares of one size, in order."""
        n = len(self.image) // count
        return [
            Share(self.image[k : k + n], self.mask[k : k + n], self.start + k, self.whole)
            for k in range(0, count * n, n)
        ]

    def pinned(self) -> Share:
        """Return the share in memory from which a GPU copies while the processor goes on."""
        mask = self.mask.pin_memory() if self.mask.numel() else self.mask
        return Share(self.image.pin_memory(), mask, self.start, self.whole)

    def to(self, device: torch.device) -> Share:
        """Copy to a device, the pictures as channels_last, without waiting for it."""
        image = self.image.to(device, memory_format=torch.channels_last, non_blocking=True)
        return Share(image, self.mask.to(device, non_blocking=True), self.start, self.whole)


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, `accelerator` None when there is but one.

    `accumulate` is the number of shares that a process takes one after another before an optimiser step; `compiled`
    passes the trained networks through torch.compile, on CUDA with graphs. There are `count`; this one is `index`.
    """

    accelerator: Any = None
    accumulate: int = 1
    compiled: bool = False
    count: int = 1
    index: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.index == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        if self.accelerator:
            return self.accelerator.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def check(self, batch_size: int) -> None:
        """Raise ValueError unless a batch can be divided into shares of one size."""
        if batch_size % (self.count * self.accumulate):
            raise ValueError(
                f"a batch of {batch_size} pictures cannot be divided evenly over {self.count} processes, "
                f"{self.accumulate} shares each: choose another --batch-size or --accumulate"
            )

    def spread(self, network: nn.Module) -> nn.Module:
        """Return the network to call in training.

        Its gradients are the means over the processes, its buffers (codebooks, power iterations) the first one's.
        """
        if self.accelerator:
            network = self.accelerator.prepare_model(network)
        if not self.compiled:
            return network
        # CUDA graphs: what a call returns, its gradients too, lasts until the next one, so not for several shares
        graphs = self.device.type == "cuda" and self.accumulate == 1
        return torch.compile(network, mode="reduce-overhead" if graphs else "default")  # type: ignore[return-value]

    def shares(self, own: Share, network: nn.Module) -> Iterator[Share]:
        """Yield the shares to take one after another; the gradients of `network` are exchanged after the last.

        Each begins with the same random numbers, those of the step, since each draws for the whole batch.
        """
        for k, share in enumerate(own.split(self.accumulate)):
            torch.manual_seed(torch.initial_seed())
            alone = self.accelerator and k < self.accumulate - 1
            with self.accelerator.no_sync(network) if alone else contextlib.nullcontext():
                yield share

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over the processes."""
        return self.accelerator.reduce(x, "sum") if self.accelerator else x

    def gathered(self, x: Tensor) -> Tensor:
        """Return the rows (n, ...) of all processes in the order of the batch: (count * n, ...)."""
        return self.accelerator.gather(x.contiguous()) if self.accelerator else x

    def agree(self, number: int) -> bool:
        """Return whether all processes have the same number."""
        return bool((self.gathered(torch.tensor([number], device=self.device)) == number).all())

    def first_says(self, number: int) -> int:
        """Return the first process's number, to all of them."""
        return int(self.gathered(torch.tensor([number], device=self.device))[0])

    def means(self, steps: Sequence[Sequence[dict[str, Tensor]]]) -> dict[str, float]:
        """Return every figure's mean over steps from what each share of each step gave.

        A figure is a mean (()), all shares being of one size, or a sum and the count it is divided by (2,).
        """
        columns = []
        for key in steps[0][0]:
            table = torch.stack([torch.stack([share[key] for share in step]) for step in steps]).float()
            columns.append((table if table.ndim == 3 else torch.stack([table, torch.ones_like(table)], dim=2)).sum(1))
        sums = self.total(torch.stack(columns))  # (figures, steps, 2)
        values = (sums[..., 0] / sums[..., 1].clamp_min(1)).tolist()
        return {key: sum(row) / len(row) for key, row in zip(steps[0][0], values, strict=True)}

    def finish(self) -> None:
        """Wait for the others at the end of a stage, and let go of its networks."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()
            self.accelerator.free_memory()


ALONE = Processes()


@contextlib.contextmanager
def launch(accumulate: int = 1, compiled: bool = False) -> Iterator[Processes]:
    """Yield the processes that `torchrun` or `accelerate launch` started, or this one alone; only the first prints.

    Raises ValueError when several were started without accelerate, or for another way to share the work than copies.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Processes(None, accumulate, compiled)
        return
    accelerator = _accelerator()
    processes = Processes(accelerator, accumulate, compiled, accelerator.num_processes, accelerator.process_index)
    with warnings.catch_warnings(), contextlib.nullcontext() if processes.first else contextlib.redirect_stdout(None):
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 convolutions, which have several
        yield processes
    accelerator.end_training()  # not after an error, where the others would be waited for in vain


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        raise ValueError("several processes need accelerate: pip install 'manifill[train]'") from error
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])
    kind = accelerator.distributed_type.value
    if not kind.startswith("MULTI_"):
        raise ValueError(f"accelerate is set to {kind}; expected MULTI_GPU or MULTI_CPU, a copy of the networks each")
    return accelerator
