"""Perceptual and style losses, a row of Table 3, and their networks: VGG-16, or a TorchScript file with `pyramid`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from manifill.networks.checkpoint import ModelError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, of pictures in [-1, 1]


def perceptual_loss(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of feature maps (N, C, h, w), layer by layer, and of their correlations.

    The perceptual and style losses that Table 3 compares the feature losses with.
    """
    total = torch.zeros((), device=a[0].device)
    for x, y in zip(a, b, strict=True):
        x, y = x.float(), y.float()
        # each layer by its own size, so that none outweighs the others
        total = total + F.l1_loss(x, y) / y.abs().mean() + F.l1_loss(gram(x), gram(y)) / gram(y).abs().mean()
    return total / len(a)


def gram(x: Tensor) -> Tensor:
    """Return the correlations of the channels: (N, C, h, w) -> (N, C, C)."""
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """Read tensors by name from a .safetensors file, or from a PyTorch file (.pth) that holds nothing but tensors."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # what PyTorch raises for a foreign or damaged pickle has no one name
        raise ValueError(f"{path}: not a readable file of tensors ({type(error).__name__}: {error})") from error


def vgg16() -> tuple[nn.Sequential, tuple[int, ...]]:
    """Return VGG-16's convolutions (Simonyan & Zisserman 2015) and the last rectified layer of each of five blocks."""
    layers: list[nn.Module] = []
    taps, channels = [], 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers[:-1]), tuple(taps)


def maps_at(taps: Sequence[int], layers: nn.Sequential, pictures: Tensor) -> list[Tensor]:
    """Return the maps of pictures (N, 3, H, W) in 0..255, normalised as ImageNet's, after the layers `taps`."""
    shift, scale = (torch.tensor(x, device=pictures.device).view(3, 1, 1) for x in (SHIFT, SCALE))
    x, found = (pictures.float() / 127.5 - 1 - shift) / scale, []
    for k, layer in enumerate(layers):
        x = layer(x)
        if k in taps:
            found.append(x)
    return found


def feature_maps(path: Path, device: torch.device) -> Callable[[Tensor], list[Tensor]]:
    """Load a network that gives feature maps of pictures (N, 3, H, W) in 0..255, frozen. Raises ModelError.

    The weights of VGG-16 (.safetensors or .pth, `features.<k>.{weight,bias}`; others in the file do not matter), or a
    TorchScript file with `pyramid`.
    """
    try:
        if path.suffix in (".safetensors", ".pth"):
            layers, taps = vgg16()
            weights = load_weights(path).items()
            layers.load_state_dict({k.removeprefix("features."): v for k, v in weights if k.startswith("features.")})
            return partial(maps_at, taps, layers.eval().requires_grad_(False).to(device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what these networks come in
            network = torch.jit.load(path, map_location=device).eval()
        for p in network.parameters():
            p.requires_grad_(False)
        return network.pyramid
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: neither VGG-16 nor a TorchScript network with `pyramid` ({error})") from error
