"""The Inception network behind published FID figures: Inception-v3 as TensorFlow released it on 2015-12-05.

It differs from the Inception-v3 of today's model collections: its weights, 1008 classes, average pools that do not
count the padding, a max pool in the last block, and TensorFlow 1's bilinear resize. Figures from another Inception,
or another resize, are not FID.

The weights file is a PyTorch state dict with the names of the widely used `pt_inception-2015-12-05`:
`<unit>.conv.weight` and `<unit>.bn.{weight,bias,running_mean,running_var}` for each unit `Conv2d_1a_3x3`, ...,
`Mixed_7c.branch_pool`, and `fc.{weight,bias}`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 299
CLASSES = 1008
Pool = Callable[[Tensor], Tensor]


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


class Unit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1, pad: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _wide(channels: int, out: int, width: int) -> Unit:
    return Unit(channels, out, (1, width), pad=(0, width // 2))


def _tall(channels: int, out: int, height: int) -> Unit:
    return Unit(channels, out, (height, 1), pad=(height // 2, 0))


class MixedA(nn.Module):
    """35 x 35: 1 x 1, 5 x 5, two 3 x 3 and a pool side by side."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(channels, 64, 1)
        self.branch5x5_1 = Unit(channels, 48, 1)
        self.branch5x5_2 = Unit(48, 64, 5, pad=2)
        self.branch3x3dbl_1 = Unit(channels, 64, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, pad=1)
        self.branch_pool = Unit(channels, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average3(x))], 1)


class MixedB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Unit(channels, 384, 3, 2)
        self.branch3x3dbl_1 = Unit(channels, 64, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class MixedC(nn.Module):
    """17 x 17: 7 x 7 convolutions in two halves, `inner` channels wide."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(channels, 192, 1)
        self.branch7x7_1 = Unit(channels, inner, 1)
        self.branch7x7_2 = _wide(inner, inner, 7)
        self.branch7x7_3 = _tall(inner, 192, 7)
        self.branch7x7dbl_1 = Unit(channels, inner, 1)
        self.branch7x7dbl_2 = _tall(inner, inner, 7)
        self.branch7x7dbl_3 = _wide(inner, inner, 7)
        self.branch7x7dbl_4 = _tall(inner, inner, 7)
        self.branch7x7dbl_5 = _wide(inner, 192, 7)
        self.branch_pool = Unit(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average3(x))], 1)


class MixedD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Unit(channels, 192, 1)
        self.branch3x3_2 = Unit(192, 320, 3, 2)
        self.branch7x7x3_1 = Unit(channels, 192, 1)
        self.branch7x7x3_2 = _wide(192, 192, 7)
        self.branch7x7x3_3 = _tall(192, 192, 7)
        self.branch7x7x3_4 = Unit(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class MixedE(nn.Module):
    """8 x 8: 3 x 3 convolutions as a wide and a tall one side by side; `pool` is what the last branch begins with."""

    def __init__(self, channels: int, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = Unit(channels, 320, 1)
        self.branch3x3_1 = Unit(channels, 384, 1)
        self.branch3x3_2a = _wide(384, 384, 3)
        self.branch3x3_2b = _tall(384, 384, 3)
        self.branch3x3dbl_1 = Unit(channels, 448, 1)
        self.branch3x3dbl_2 = Unit(448, 384, 3, pad=1)
        self.branch3x3dbl_3a = _wide(384, 384, 3)
        self.branch3x3dbl_3b = _tall(384, 384, 3)
        self.branch_pool = Unit(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        three = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        double = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *three, *double, self.branch_pool(self.pool(x))], 1)


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al. 2016) in the variant of 2015-12-05.

    Pictures (N, 3, H, W) in 0..255 -> pool3 features (N, 2048) and logits (N, 1008) without the classifier's bias, as
    the Inception Score has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, pad=1)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Mixed_5b = MixedA(192, 32)
        self.Mixed_5c = MixedA(256, 64)
        self.Mixed_5d = MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(768, 128)
        self.Mixed_6c = MixedC(768, 160)
        self.Mixed_6d = MixedC(768, 160)
        self.Mixed_6e = MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b = MixedE(1280, average3)
        self.Mixed_7c = MixedE(2048, max3)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = (resize_tf1(x.to(self.fc.weight.dtype)) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (N, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))  # (N, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))  # (N, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (N, 768, 17, 17)
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))  # (N, 1280, 8, 8)
        features = self.Mixed_7c(self.Mixed_7b(x)).mean((2, 3))  # (N, 2048)
        return features, features @ self.fc.weight.t()
