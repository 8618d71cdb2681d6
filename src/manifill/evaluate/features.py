"""Feature networks: what pictures are measured with. Each has a name, and a figure is named after its network.

    network = TorchScriptNetwork("squeezenet1_0-imagenet.ts")       # any file of that shape, named "SqueezeNet"
    network = InceptionNetwork(fetch("inception", cache))           # the one that makes FID, KID and IS
    network = LPIPS("alex", fetch("alexnet", cache), fetch("lpips-alex", cache))

Pictures are (N, 3, H, W) in 0..255, uint8 or float, and go through a network in batches. Weights are given by path or
fetched once from their public homes; nothing is fetched unasked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import re
import secrets
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from manifill.evaluate.inception import InceptionV3
from manifill.evaluate.metrics import perceptual_layers, perceptual_map

BATCH = 16
SPELLINGS = {"squeezenet": "SqueezeNet", "inception": "Inception", "alexnet": "AlexNet", "vgg": "VGG"}
Backbone = Literal["alex", "vgg"]
Call = Callable[[Tensor], tuple[Tensor, Tensor]]
Measure = Callable[[Tensor, Tensor], Tensor]


class FeatureNetwork(Protocol):
    """What Fréchet and kernel distances, the Inception Scores, P-IDS and precision need."""

    name: str

    def pooled(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, F) and logits (N, C) as float32."""
        ...


class PerceptualNetwork(Protocol):
    """What perceptual distances, diversity and the diversity score need."""

    name: str

    def perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures: (N,)."""
        ...

    def distance_maps(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures at every pixel: (N, H, W)."""
        ...


def network_name(path: Path) -> str:
    """Name a network after its file up to the first digit or underscore: squeezenet1_0-imagenet.ts is SqueezeNet."""
    stem = re.split(r"[\d_]", path.stem)[0].strip("-. ") or path.stem
    return SPELLINGS.get(stem.lower(), stem)


def _pooled(network: Call, pictures: Tensor, batch: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        parts = [tuple(t.float().cpu() for t in network(p.to(device))) for p in pictures.split(batch)]
    features, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return features, logits


def _by_pairs(measure: Measure, a: Tensor, b: Tensor, batch: int, device: torch.device) -> Tensor:
    with torch.no_grad():
        pairs = zip(a.split(batch), b.split(batch), strict=True)
        return torch.cat([measure(x.to(device), y.to(device)).cpu() for x, y in pairs])


def _mean(layers: list[Tensor]) -> Tensor:
    return torch.stack([d.mean((1, 2)) for d in layers]).sum(0)


class TorchScriptNetwork:
    """A TorchScript file whose call returns (features (N, F), logits (N, C)) and `.pyramid(x)` a list of feature maps.

    It is named after its file unless the caller names it. Raises ValueError for another kind of file. TorchScript is
    a program: load files of known origin only.
    """

    def __init__(
        self, path: Path | str, name: str | None = None, device: torch.device | str = "cpu", batch: int = BATCH
    ) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such feature network")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the published files are TorchScript
                self.network = torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            raise ValueError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]})") from error
        if not hasattr(self.network, "pyramid"):
            raise ValueError(f"{path}: has no method `pyramid`, which perceptual distances need")
        self.name, self.batch, self.device = name or network_name(path), batch, torch.device(device)

    def pooled(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, F) and logits (N, C) as float32."""
        return _pooled(self.network, pictures, self.batch, self.device)

    def perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures, without learned weights (`perceptual_distance`): (N,)."""
        return _by_pairs(lambda x, y: _mean(self._layers(x, y)), a, b, self.batch, self.device)

    def distance_maps(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures at every pixel: (N, H, W)."""
        return _by_pairs(lambda x, y: perceptual_map(self._layers(x, y), a.shape[2:]), a, b, self.batch, self.device)

    def _layers(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return list(perceptual_layers(self.network.pyramid(a), self.network.pyramid(b)))


class InceptionNetwork:
    """The Inception network of published FID, KID and IS figures, from the weights file `fetch("inception")` returns.

    Features (N, 2048) and logits (N, 1008). Raises ValueError for a file with other names or shapes.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu", batch: int = BATCH) -> None:
        self.name, self.batch, self.device = "Inception", batch, torch.device(device)
        self.network = InceptionV3().eval().requires_grad_(False)
        _load_strictly(self.network, load_weights(path), Path(path))
        self.network.to(self.device)

    def pooled(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, 2048) and logits (N, 1008) as float32."""
        return _pooled(self.network, pictures, self.batch, self.device)


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


def _load_strictly(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights by exact names and shapes; only counters of batches, which files may lack, do not matter."""
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **weights}, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit {type(network).__name__} ({error})") from error


def _alexnet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """Return AlexNet's convolutions (Krizhevsky 2014) and which entries are its five rectified layers."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    ), (1, 4, 7, 9, 11)  # fmt: skip


def _vgg16() -> tuple[nn.Sequential, tuple[int, ...]]:
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


class LPIPS:
    """Learned perceptual distance (Zhang et al. 2018), version 0.1, with AlexNet or VGG-16; lower is nearer.

    `backbone` is the network's ImageNet weights (`features.<k>.{weight,bias}`; the classifier's are ignored), `linear`
    the learned weights of the five layers (`lin<k>.model.1.weight`, (1, C, 1, 1)), not given where one file holds both;
    see `fetch`. Pictures are taken at their own size. Raises ValueError for files with other names or shapes.
    """

    def __init__(
        self, net: Backbone, backbone: Path | str, linear: Path | str | None = None,
        device: torch.device | str = "cpu", batch: int = BATCH,
    ) -> None:  # fmt: skip
        self.name, self.batch, self.device = f"LPIPS-{net}", batch, torch.device(device)
        self.convolutions, self.taps = {"alex": _alexnet, "vgg": _vgg16}[net]()
        weights = load_weights(backbone) | ({} if linear is None else load_weights(linear))
        learned = {k: v for k, v in weights.items() if k.startswith("lin")}
        rest = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
        if strange := [k for k in weights if not k.startswith(("lin", "features.", "classifier."))]:
            raise ValueError(f"{backbone}: not weights of {self.name}: {', '.join(strange[:5])}")
        _load_strictly(self.convolutions, rest, Path(backbone))
        self.convolutions.eval().requires_grad_(False).to(self.device)
        self.weights = self._linear(learned, Path(linear or backbone))
        self.shift = torch.tensor([-0.030, -0.088, -0.188], device=self.device).view(3, 1, 1)
        self.scale = torch.tensor([0.458, 0.448, 0.450], device=self.device).view(3, 1, 1)

    def _linear(self, found: dict[str, Tensor], path: Path) -> list[Tensor]:
        widths = [self.convolutions.get_parameter(f"{tap - 1}.weight").shape[0] for tap in self.taps]
        expected = {f"lin{k}.model.1.weight": (1, width, 1, 1) for k, width in enumerate(widths)}
        if {k: tuple(v.shape) for k, v in found.items()} != expected:
            raise ValueError(f"{path}: not the learned weights of {self.name}; expected {expected}")
        return [found[k].float().flatten().to(self.device) for k in expected]

    def _features(self, pictures: Tensor) -> Sequence[Tensor]:
        x, found = (pictures.float() / 127.5 - 1 - self.shift) / self.scale, []
        for k, layer in enumerate(self.convolutions):
            x = layer(x)
            if k in self.taps:
                found.append(x)
        return found

    def _layers(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return list(perceptual_layers(self._features(a), self._features(b), self.weights))

    def perceptual(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures: (N,)."""
        return _by_pairs(lambda x, y: _mean(self._layers(x, y)), a, b, self.batch, self.device)

    def distance_maps(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance of pairs of pictures at every pixel: (N, H, W); the NTIRE diversity score's maps."""
        return _by_pairs(lambda x, y: perceptual_map(self._layers(x, y), a.shape[2:]), a, b, self.batch, self.device)


def load_networks(
    features: Sequence[Path] = (), inception: Path | None = None, lpips_alex: Path | None = None,
    lpips_vgg: Path | None = None, device: torch.device | str = "cpu",
) -> tuple[list[FeatureNetwork], list[PerceptualNetwork]]:  # fmt: skip
    """Return the networks that give features and those that give distances.

    `features` are TorchScript files, which give both. The others are weights files; a folder in place of one is a
    cache, where the public files are taken from and fetched to.
    """
    scripted = [TorchScriptNetwork(path, device=device) for path in features]
    pooled: list[FeatureNetwork] = [*scripted]
    if inception:
        pooled.append(InceptionNetwork(fetch("inception", inception) if inception.is_dir() else inception, device))
    perceptual: list[PerceptualNetwork] = [*scripted]
    perceptual += [_lpips("alex", "alexnet", lpips_alex, device)] if lpips_alex else []
    perceptual += [_lpips("vgg", "vgg16", lpips_vgg, device)] if lpips_vgg else []
    return pooled, perceptual


def _lpips(net: Backbone, backbone: str, path: Path, device: torch.device | str) -> LPIPS:
    files = (fetch(backbone, path), fetch(f"lpips-{net}", path)) if path.is_dir() else (path, None)
    return LPIPS(net, *files, device)


@dataclasses.dataclass(frozen=True)
class PublicFile:
    """A file at its public home and its SHA-256."""

    url: str
    sha256: str


_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963"
PUBLIC_FILES = {
    "inception": PublicFile(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "alexnet": PublicFile(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "vgg16": PublicFile(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "lpips-alex": PublicFile(
        f"{_LPIPS}/lpips/weights/v0.1/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    ),
    "lpips-vgg": PublicFile(
        f"{_LPIPS}/lpips/weights/v0.1/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
    ),
}


def fetch(name: str, cache: Path, quiet: bool = False) -> Path:
    """Return the path of a known public file in `cache`, downloading it when it is not there.

    Names are those of `PUBLIC_FILES`. A file in the cache is checked as well. Raises ValueError for another name, and
    OSError (naming the address, the expected hash and the place for a copy by hand) when the file cannot be had or
    its hash is wrong; nothing half-written stays.
    """
    if name not in PUBLIC_FILES:
        raise ValueError(f"no public file {name!r}; there are {', '.join(PUBLIC_FILES)}")
    public = PUBLIC_FILES[name]
    path = cache / f"{name}{Path(public.url).suffix}"
    if not path.exists():
        return _download(public, path, quiet)
    with path.open("rb") as f:
        found = hashlib.file_digest(f, "sha256").hexdigest()
    if found != public.sha256:
        raise OSError(f"{path}: SHA-256 {found}, expected {public.sha256}; delete it to fetch {public.url} again")
    return path


def _download(public: PublicFile, path: Path, quiet: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as f:
            found = _copy(public.url, f, quiet)
        if found != public.sha256:
            raise OSError(f"what came has SHA-256 {found}")
        return part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # an answer in itself
        raise OSError(
            f"could not fetch {public.url}: {error}. Expected SHA-256 {public.sha256}. "
            f"To go on without a connection, put the file at {path}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _copy(url: str, to: IO[bytes], quiet: bool) -> str:
    """Copy what `url` holds, with a progress bar, and return its SHA-256; raises OSError when it ends early."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as response:
        total = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, desc=Path(url).name, unit="B", unit_scale=True, disable=quiet) as bar:
            while block := response.read(1 << 20):
                to.write(block)
                digest.update(block)
                bar.update(len(block))
            if to.tell() < total:
                raise OSError(f"interrupted after {to.tell()} of {total} bytes")
    return digest.hexdigest()
