"""The Inception network behind published FID figures: Inception-v3 as TensorFlow released it on 2015-12-05.

It differs from the Inception-v3 of today's model collections: its weights, 1008 classes, average pools that do not
count the padding, a max pool in the last block, and TensorFlow 1's bilinear resize. Figures from another Inception,
or another resize, are not FID.

The weights file is a PyTorch state dict with the names of the widely used `pt_inception-2015-12-05`:
`<unit>.conv.weight` and `<unit>.bn.{weight,bias,running_mean,running_var}` for each unit `Conv2d_1a_3x3`, ...,
`Mixed_7c.branch_pool`, and `fc.{weight,bias}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299
CLASSES = 1008
Pool = Callable[[Tensor], Tensor]
Kernel = int | tuple[int, int]
Row = Sequence[tuple[int, Kernel] | tuple[int, Kernel, Kernel]]


def resize_tf1(x: Tensor, size: int = SIZE) -> Tensor:
    """Resize pictures (N, C, H, W) to a square as TensorFlow 1's `resize_bilinear` without aligned corners.

    Pixel k of the result lies at k * (old / new) of the source: no half-pixel shift, and no smoothing when shrinking.
    """
    return _resize_last(_resize_last(x, size).transpose(2, 3), size).transpose(2, 3)


def _resize_last(x: Tensor, size: int) -> Tensor:
    length = x.shape[-1]
    place = torch.arange(size, device=x.device, dtype=torch.float32) * (length / size)
    low = place.floor().long().clamp_max(length - 1)
    high = (low + 1).clamp_max(length - 1)
    return x[..., low].lerp(x[..., high], (place - low).to(x.dtype))


def average3(x: Tensor) -> Tensor:
    """Average 3 x 3 neighbours, over those inside the picture only."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def max3(x: Tensor) -> Tensor:
    """Take the largest of 3 x 3 neighbours."""
    return F.max_pool2d(x, 3, 1, 1)


def halving(x: Tensor) -> Tensor:
    """Take the largest of 3 x 3 neighbours at every second place, none of them outside the picture."""
    return F.max_pool2d(x, 3, 2)


class Unit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, channels: int, out: int, kernel: Kernel, stride: int = 1, padding: str = "same") -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Rows of units side by side, and a row that begins with `pool`; their results are joined along the channels.

    A row names the channels and the kernel of each of its units, which are called after it: `branch5x5_1`,
    `branch5x5_2`. Of two kernels in one place both look at the same, side by side: `branch3x3_2a`, `branch3x3_2b`.
    The pool's row has one unit, of `pooled` channels. Without one, the block halves the sides: the pool does, and the
    last unit of every row.
    """

    def __init__(self, channels: int, rows: dict[str, Row], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self.pool, self.names = pool, list[list[list[str]]]()
        last = {"branch_pool": [(pooled, 1)] if pooled else []}
        for name, row in (rows | last).items():
            width, called = channels, []
            for k, (out, *kernels) in enumerate(row, 1):
                number = f"_{k}" if len(row) > 1 else ""
                called.append([f"{name}{number}{letter}" for letter in ("ab" if len(kernels) > 1 else [""])])
                stride, padding = (1, "same") if pooled or k < len(row) else (2, "valid")
                for unit, kernel in zip(called[-1], kernels, strict=True):
                    self.add_module(unit, Unit(width, out, kernel, stride, padding))
                width = out
            self.names.append(called)

    def forward(self, x: Tensor) -> Tensor:
        found = [x] * (len(self.names) - 1) + [self.pool(x)]
        for k, row in enumerate(self.names):
            for units in row:
                found[k] = torch.cat([self.get_submodule(unit)(found[k]) for unit in units], 1)
        return torch.cat(found, 1)


def rows_c(inner: int) -> dict[str, Row]:
    """Return the rows at 17 x 17: 7 x 7 convolutions in two halves, `inner` channels wide."""
    double = [(inner, 1), (inner, TALL7), (inner, WIDE7), (inner, TALL7), (192, WIDE7)]
    return {"branch1x1": [(192, 1)], "branch7x7": [(inner, 1), (inner, WIDE7), (192, TALL7)], "branch7x7dbl": double}


WIDE3, TALL3, WIDE7, TALL7 = (1, 3), (3, 1), (1, 7), (7, 1)
DOUBLE: Row = [(64, 1), (96, 3), (96, 3)]
ROWS_A: dict[str, Row] = {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": DOUBLE}  # 35 x 35
ROWS_B: dict[str, Row] = {"branch3x3": [(384, 3)], "branch3x3dbl": DOUBLE}  # 35 x 35 to 17 x 17
ROWS_D: dict[str, Row] = {  # 17 x 17 to 8 x 8
    "branch3x3": [(192, 1), (320, 3)],
    "branch7x7x3": [(192, 1), (192, WIDE7), (192, TALL7), (192, 3)],
}
ROWS_E: dict[str, Row] = {  # 8 x 8
    "branch1x1": [(320, 1)],
    "branch3x3": [(384, 1), (384, WIDE3, TALL3)],
    "branch3x3dbl": [(448, 1), (384, 3), (384, WIDE3, TALL3)],
}


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al. 2016) in the variant of 2015-12-05.

    Pictures (N, 3, H, W) in 0..255 -> pool3 features (N, 2048) and logits (N, 1008) without the classifier's bias, as
    the Inception Score has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 2, "valid")
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, 1, "valid")
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, 1, "valid")
        self.Mixed_5b = Mixed(192, ROWS_A, average3, 32)
        self.Mixed_5c = Mixed(256, ROWS_A, average3, 64)
        self.Mixed_5d = Mixed(288, ROWS_A, average3, 64)
        self.Mixed_6a = Mixed(288, ROWS_B, halving)
        self.Mixed_6b = Mixed(768, rows_c(128), average3, 192)
        self.Mixed_6c = Mixed(768, rows_c(160), average3, 192)
        self.Mixed_6d = Mixed(768, rows_c(160), average3, 192)
        self.Mixed_6e = Mixed(768, rows_c(192), average3, 192)
        self.Mixed_7a = Mixed(768, ROWS_D, halving)
        self.Mixed_7b = Mixed(1280, ROWS_E, average3, 192)
        self.Mixed_7c = Mixed(2048, ROWS_E, max3, 192)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = (resize_tf1(x.to(self.fc.weight.dtype)) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (N, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halving(x)))  # (N, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(halving(x))))  # (N, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (N, 768, 17, 17)
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))  # (N, 1280, 8, 8)
        features = self.Mixed_7c(self.Mixed_7b(x)).mean((2, 3))  # (N, 2048)
        return features, features @ self.fc.weight.t()
