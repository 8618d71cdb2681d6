"""Convolution with TensorFlow's SAME padding, which PyTorch's `padding=` cannot say, and pixel repetition.

The paper's models were trained in TensorFlow. Where a stride of 2 meets an odd kernel, its SAME padding puts one zero
more behind than before; PyTorch would put as many on both sides and so see every picture one pixel away from where the
released weights expect it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after one axis of length `size`; asymmetric for odd kernels of stride 2."""
    # ceil(size / stride) windows, the last of which may reach over the end: by `total` zeros
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2  # kernel 3, stride 2, even size: 0 before, 1 after


class SameConv2d(nn.Conv2d):
    """Conv2d with SAME padding: (N, C, H, W) -> (N, O, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation)

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(input, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with SAME padding and the given weights, all of this layer's or some of its outputs'."""
        rows, columns = (
            same_padding(x.shape[a], self.kernel_size[i], self.stride[i], self.dilation[i])
            for i, a in enumerate((2, 3))
        )
        if rows[0] == rows[1] and columns[0] == columns[1]:  # the convolution pads by itself, without a copy
            padding = (rows[0], columns[0])
        else:
            x, padding = F.pad(x, (*columns, *rows)), (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two halves of the channels: (N, 2C, H, W) -> (N, C, H, W) each.

    They are copies where they lie in runs of fewer than 64 numbers (channels_last): elementwise functions of such take
    up to five times as long on a processor.
    """
    a, b = x.chunk(2, dim=1)
    return (a.clone(), b.clone()) if x.stride(1) == 1 and a.shape[1] < 64 else (a, b)


def upsample(x: Tensor) -> Tensor:
    """Repeat every pixel 2x2: (N, C, H, W) -> (N, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def with_mask(image: Tensor, mask: Tensor) -> Tensor:
    """Return cat[masked image, ones, mask], the 5-channel input of section 2a and 3: (N, 5, H, W).

    `image` is (N, 3, H, W) in [-1, 1]; `mask` is (N, 1, H, W), 1 in the hole. The hole is zeroed here. The result has
    the image's memory format.
    """
    mask = mask.expand(image.shape[0], -1, -1, -1)
    # the ones tell a convolution where the picture ends: padding is zero there, as a hole is in the other channels
    x = torch.cat([image * (1 - mask), torch.ones_like(mask), mask], dim=1)  # forgets channels_last
    last = torch.channels_last
    return x.contiguous(memory_format=last) if image.is_contiguous(memory_format=last) else x
