"""Feature networks: what pictures are measured with. Each has a name, and a figure is named after its network.

    network = TorchScriptNetwork("squeezenet1_0-imagenet.ts")       # any file of that shape, named "SqueezeNet"
    network = InceptionNetwork(fetch("inception", cache))           # the one that makes FID, KID and IS
    network = LPIPS("alex", fetch("alexnet", cache), fetch("lpips-alex", cache))

Pictures are (N, 3, H, W) in 0..255, uint8 or float, and go through a network in batches. Weights are given by path or
fetched once from their public homes; nothing is fetched unasked.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from manifill.evaluate.downloads import fetch
from manifill.evaluate.inception import InceptionV3
from manifill.evaluate.metrics import mean_distance, unit_differences, unit_features
from manifill.train.perceptual import load_weights, maps_at, vgg16

SPELLINGS = {"squeezenet": "SqueezeNet", "inception": "Inception", "alexnet": "AlexNet", "vgg": "VGG"}
Backbone = Literal["alex", "vgg"]


def network_name(path: Path) -> str:
    """Name a network after its file up to the first digit or underscore: squeezenet1_0-imagenet.ts is SqueezeNet."""
    stem = re.split(r"[\d_]", path.stem)[0].strip("-. ") or path.stem
    return SPELLINGS.get(stem.lower(), stem)


class FeatureNetwork:
    """Features and logits of pictures by a network that returns both: (N, F) and (N, C)."""

    name: str
    batch = 16
    network: Callable[[Tensor], tuple[Tensor, Tensor]]

    @torch.no_grad()
    def pooled(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, F) and logits (N, C) as float32."""
        parts = [tuple(t.float() for t in self.network(p)) for p in pictures.split(self.batch)]
        features, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        return features, logits


class Perceptual:
    """Distances of pictures by the feature maps of a network, with or without learned weights for the channels."""

    name: str
    batch = 16
    device = torch.device("cpu")
    weights: Sequence[Tensor] | None = None

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """Return the feature maps of one batch of pictures, layer by layer: (N, C, h, w) each."""
        raise NotImplementedError

    @torch.no_grad()
    def units(self, pictures: Tensor) -> list[Tensor]:
        """Return the unit feature maps of pictures, layer by layer: (N, C, h, w) each."""
        parts = [unit_features(self.maps(p.to(self.device))) for p in pictures.split(self.batch)]
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
        """Return the distance of unit feature maps at every place, layer by layer: (N, h, w) each."""
        return [d.cpu() for d in unit_differences(a, b, self.weights)]

    def perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures: (N,)."""
        pairs = zip(a.split(self.batch), b.split(self.batch), strict=True)
        return torch.cat([mean_distance(self.between(self.units(x), self.units(y))) for x, y in pairs])


class TorchScriptNetwork(FeatureNetwork, Perceptual):
    """A TorchScript file whose call returns (features (N, F), logits (N, C)) and `.pyramid(x)` a list of feature maps.

    It is named after its file. Raises ValueError for another kind of file. TorchScript is a program: load files of
    known origin only.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such feature network")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the published files are TorchScript
                network = torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as error:
            raise ValueError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]})") from error
        if not hasattr(network, "pyramid"):
            raise ValueError(f"{path}: has no method `pyramid`, which perceptual distances need")
        self.name, self.network, self.maps = network_name(path), network, network.pyramid


class InceptionNetwork(FeatureNetwork):
    """The Inception network of published FID, KID and IS figures, from the weights file `fetch("inception")` returns.

    Features (N, 2048) and logits (N, 1008). Raises ValueError for a file with other names or shapes.
    """

    name = "Inception"

    def __init__(self, path: Path) -> None:
        self.network = InceptionV3().eval().requires_grad_(False)
        _load_strictly(self.network, load_weights(path), path)


def _load_strictly(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights by exact names and shapes; only counters of batches, which files may lack, do not matter."""
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **weights}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit {type(network).__name__} ({error})") from error


def _alexnet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """Return AlexNet's convolutions (Krizhevsky 2014) and which entries are its five rectified layers."""
    first = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    second = [nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    rest = [layer for a, b in ((192, 384), (384, 256), (256, 256)) for layer in (nn.Conv2d(a, b, 3, 1, 1), nn.ReLU())]
    return nn.Sequential(*first, *second, *rest), (1, 4, 7, 9, 11)


class LPIPS(Perceptual):
    """Learned perceptual distance (Zhang et al. 2018), version 0.1, with AlexNet or VGG-16; lower is nearer.

    `backbone` is the network's ImageNet weights (`features.<k>.{weight,bias}`; the classifier's are ignored), `linear`
    the learned weights of the five layers (`lin<k>.model.1.weight`, (1, C, 1, 1)), not given where one file holds both;
    see `fetch`. Pictures are taken at their own size. Raises ValueError for files with other names or shapes.
    """

    def __init__(
        self, net: Backbone, backbone: Path, linear: Path | None = None, device: torch.device | None = None
    ) -> None:
        self.name, self.device = f"LPIPS-{net}", device or self.device
        self.convolutions, self.taps = {"alex": _alexnet, "vgg": vgg16}[net]()
        weights = load_weights(backbone) | ({} if linear is None else load_weights(linear))
        learned = {k: v for k, v in weights.items() if k.startswith("lin")}
        rest = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
        if strange := [k for k in weights if not k.startswith(("lin", "features.", "classifier."))]:
            raise ValueError(f"{backbone}: not weights of {self.name}: {', '.join(strange[:5])}")
        _load_strictly(self.convolutions, rest, backbone)
        self.convolutions.eval().requires_grad_(False).to(self.device)
        widths = [self.convolutions.get_parameter(f"{tap - 1}.weight").shape[0] for tap in self.taps]
        expected = {f"lin{k}.model.1.weight": (1, width, 1, 1) for k, width in enumerate(widths)}
        if {k: tuple(v.shape) for k, v in learned.items()} != expected:
            raise ValueError(f"{linear or backbone}: not the learned weights of {self.name}; expected {expected}")
        self.weights = [learned[k].float().flatten().to(self.device) for k in expected]

    def maps(self, pictures: Tensor) -> Sequence[Tensor]:
        """Return the feature maps of one batch of pictures."""
        return maps_at(self.taps, self.convolutions, pictures)


def load_judges(
    features: Sequence[Path] = (),
    inception: Path | None = None,
    lpips_alex: Path | None = None,
    lpips_vgg: Path | None = None,
) -> tuple[list[FeatureNetwork], list[Perceptual]]:
    """Return the networks that give features and those that give distances.

    `features` are TorchScript files, which give both. The others are weights files; a folder in place of one is a
    cache, where the public files are taken from and fetched to.
    """
    scripted = [TorchScriptNetwork(path) for path in features]
    if len({network.name for network in scripted}) < len(scripted):
        raise ValueError(f"two feature networks have one name: {', '.join(n.name for n in scripted)}; rename a file")
    pooled: list[FeatureNetwork] = [*scripted]
    if inception:
        pooled.append(InceptionNetwork(fetch("inception", inception) if inception.is_dir() else inception))
    perceptual: list[Perceptual] = [*scripted]
    nets: dict[Backbone, tuple[str, Path | None]] = {"alex": ("alexnet", lpips_alex), "vgg": ("vgg16", lpips_vgg)}
    for net, (backbone, path) in nets.items():
        if path:
            files = (fetch(backbone, path), fetch(f"lpips-{net}", path)) if path.is_dir() else (path, None)
            perceptual.append(LPIPS(net, *files))
    return pooled, perceptual
