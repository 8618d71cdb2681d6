"""Float32 as IEEE has it, wherever structure codes depend on it.

On CUDA, PyTorch rounds the inputs of float32 convolutions to TF32, 10 bits of mantissa, unless told otherwise. A code
is the largest of many sums, so rounded ones give other codes: 8 of 32 seeds of `faces-128` on an H100. What codes
depend on is therefore computed exactly, on every device; painting and training may be fast.
"""

from __future__ import annotations

import threading
from contextlib import ContextDecorator

import torch

IEEE = "ieee"


class ExactFloat32(ContextDecorator):
    """While it is entered, by any thread, float32 products are not rounded to TF32; then it is as it was before.

    PyTorch's switches belong to the process, so this counts who is inside.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.before = threading.Lock(), 0, []

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = [(where, name, getattr(where, name)) for where, name, _ in switches()]
                for where, name, exact in switches():
                    setattr(where, name, exact)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                for where, name, value in self.before:
                    setattr(where, name, value)


def switches() -> list[tuple[object, str, object]]:
    """Return where PyTorch keeps the precision of float32 products, the attribute, and its value for exact ones."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)  # since PyTorch 2.9
    if convolutions is not None:
        return [(part, "fp32_precision", IEEE) for part in (convolutions, torch.backends.cuda.matmul)]
    return [(part, "allow_tf32", False) for part in (torch.backends.cudnn, torch.backends.cuda.matmul)]


exact_float32 = ExactFloat32()
