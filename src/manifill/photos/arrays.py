"""Arrays and tensors as pictures: the shapes, types and ranges that other libraries hand over."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

TAKEN = (
    "uint8 or uint16, other integers from 0 to 255, fractions from 0 to 1, or a bool mask; of shape (H, W), (H, W, C) "
    "or (C, H, W), C being 1, 3 or 4, with or without a leading 1"
)


def as_array(source: Any) -> np.ndarray | None:
    """Return an array, or a PyTorch tensor as one, its memory shared where that is possible; None for another thing."""
    torch = sys.modules.get("torch")  # a tensor cannot be at hand before PyTorch is
    if torch is not None and isinstance(source, torch.Tensor):
        found = source.detach().cpu()
        return (found.float() if found.is_floating_point() else found).numpy()
    return source if isinstance(source, np.ndarray) else None


def samples_of(array: np.ndarray) -> np.ndarray:
    """Return an array's picture: uint8, uint16 or bool, (H, W) or (H, W, C) with C 3 or 4. Raises ValueError.

    Fractions from 0 to 1 become 8 bits, which loses what is finer.
    """
    samples = _arranged(array)
    if samples is None or samples.size == 0:
        raise ValueError(f"array {array.dtype} {array.shape}; expected {TAKEN}")
    kind = samples.dtype.kind
    if kind == "b" and samples.ndim == 2:
        return samples
    if kind == "u" and samples.dtype.itemsize <= 2:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if kind not in "iuf":
        raise ValueError(f"array {array.dtype} {array.shape}; expected {TAKEN}")
    low, high, most = samples.min(), samples.max(), 1 if kind == "f" else 255
    if not (low >= 0 and high <= most):  # not true of what is no number, either
        raise ValueError(f"array {array.dtype} {array.shape} with values from {low:g} to {high:g}; expected {TAKEN}")
    return (samples.astype(np.float64) * 255).round().astype(np.uint8) if kind == "f" else samples.astype(np.uint8)


def _arranged(array: np.ndarray) -> np.ndarray | None:
    """Return an array as (H, W) or (H, W, C), None where its shape is no picture's."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return array
    if array.ndim != 3:
        return None
    if array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.shape[2] == 1:
        return array[..., 0]
    return array if array.shape[2] in (3, 4) else None
