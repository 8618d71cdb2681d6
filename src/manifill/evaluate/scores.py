"""What is measured of every picture, kept as arrays so that shards can be merged, and the figures made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from manifill.data.pictures import Pictures
from manifill.evaluate import metrics
from manifill.evaluate.features import FeatureNetwork, Perceptual
from manifill.evaluate.methods import Completed, Method
from manifill.evaluate.metrics import mean_distance, perceptual_map
from manifill.evaluate.table import metric
from manifill.networks.atomic import write_atomic

SEEN = 32  # pixels, below which the deeper layers of feature networks see nothing
SPLITS = 10  # of a set for the Inception Scores, as the authors' code has it
PER_COMPLETION = ("l1", "psnr", "ssim_skimage7", "ssim_gauss11", "seam", "seam_photo", "bits")


@dataclass(frozen=True)
class Scores:
    """Arrays whose first axis is the picture, in the order of `index`, and `about`, which says what was measured."""

    about: dict[str, Any]
    index: np.ndarray  # (N,) int64, the pictures' places in the data
    values: dict[str, np.ndarray]  # (N, S) of every completion, (N,) of a picture, (N, F) and (N, S, F) features

    def save(self, path: Path) -> None:
        """Write the arrays and what they are of into one .npz file, whole or not at all."""
        buffer = io.BytesIO()
        about = np.frombuffer(json.dumps(self.about).encode(), np.uint8)
        np.savez(buffer, **{"about": about, "index": self.index} | {f"value_{k}": v for k, v in self.values.items()})  # type: ignore[arg-type]
        write_atomic(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> Scores:
        """Read what `save` wrote. Raises ValueError."""
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {k.removeprefix("value_"): file[k] for k in file.files if k.startswith("value_")}
                return Scores(json.loads(file["about"].tobytes()), file["index"], values)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: not scores that manifill evaluate wrote ({error})") from error


def merge(parts: Sequence[Scores]) -> Scores:
    """Join shards of one evaluation; in the order of the pictures, so that nothing depends on the division.

    Raises ValueError when they are of different evaluations, overlap or leave pictures out.
    """
    first, *others = ({k: v for k, v in part.about.items() if k not in ("shard", "date")} for part in parts)
    if odd := next((other for other in others if other != first), None):
        keys = sorted(k for k in first.keys() | odd.keys() if first.get(k) != odd.get(k))
        raise ValueError(f"shards of different evaluations: they differ in {', '.join(keys)}")
    index = np.concatenate([p.index for p in parts])
    order = np.argsort(index, kind="stable")
    if not np.array_equal(index[order], np.arange(first["pictures"])):
        raise ValueError(
            f"the shards hold {len(set(index.tolist()))} of {first['pictures']} pictures, {len(index)} in all"
        )
    values = {k: np.concatenate([p.values[k] for p in parts])[order] for k in parts[0].values}
    return Scores({"date": parts[0].about["date"]} | first, index[order], values)


@dataclass(frozen=True)
class Task:
    """Pictures with their holes, and the networks that look at what fills them."""

    pictures: Pictures
    holes: Callable[[int], np.ndarray]
    networks: Sequence[FeatureNetwork]
    perceptual: Sequence[Perceptual]
    about: dict[str, Any]
    shard: tuple[int, int] = (0, 1)  # this one, of so many

    def indices(self) -> range:
        """Return the pictures of this shard."""
        return range(self.shard[0], self.about["pictures"], self.shard[1])

    def score(self, method: Method, quiet: bool = False) -> Scores:
        """Complete and measure every picture of this shard."""
        rows = []
        for k in tqdm(self.indices(), desc=method.name, unit="picture", disable=quiet, leave=False):
            picture, hole = self.pictures.array[k], self.holes(k)
            done = method.complete(picture, hole, k, self.pictures.names[k])
            rows.append(measure(picture, hole, done, self.networks, self.perceptual))
        values = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        about = self.about | method.about | {"shard": f"{self.shard[0]}/{self.shard[1]}"}
        return Scores(about, np.array(self.indices(), np.int64), values)


@torch.no_grad()
def measure(
    picture: np.ndarray,
    hole: np.ndarray,
    done: Completed,
    networks: Sequence[FeatureNetwork],
    perceptual: Sequence[Perceptual],
) -> dict[str, np.ndarray]:
    """Return everything that is measured of one picture; its completions make one batch, whatever else is evaluated."""
    a, real = tensor(done.composites), tensor(picture[None])
    b, mask = real.expand_as(a), torch.from_numpy(hole)[None, None].float().expand(len(a), -1, -1, -1)
    found: dict[str, Any] = {
        "l1": metrics.l1(a, b),
        "psnr": metrics.psnr(a, b),
        "ssim_skimage7": metrics.ssim(a, b, "skimage7"),
        "ssim_gauss11": metrics.ssim(a, b, "gauss11"),
    }
    found["seam"], found["seam_photo"] = metrics.seam_error(a, mask)
    if done.bits is not None:
        found["bits"] = done.bits
    for network in networks:
        features, logits = network.pooled(a)
        found |= {f"features_{network.name}": features, f"logits_{network.name}": logits}
        found[f"real_{network.name}"] = network.pooled(real)[0][0]
    for network in perceptual:
        found |= distances(network, a, real, done.full, hole)
    return {k: np.asarray(v, np.float32) for k, v in found.items()}


def distances(
    network: Perceptual, composites: Tensor, real: Tensor, full: np.ndarray | None, hole: np.ndarray
) -> dict[str, Tensor]:
    """Return the distance of every completion to the photo and, of several, how far apart they are.

    Diversity is the mean distance of two completions, of three kinds: the composites, the pictures as painted (`full`)
    where the method has them, and the hole's bounding box, of SEEN pixels at least.
    """
    units, photo = network.units(composites), network.units(real)
    to_photo = network.between(units, [u.expand_as(v) for u, v in zip(photo, units, strict=True)])
    found = {f"perceptual_{network.name}": mean_distance(to_photo)}
    if len(composites) == 1:
        return found
    kinds = {"composite": units}
    if min(hole.shape) >= SEEN:
        rows, columns = (around_hole(np.asarray(hole.any(axis))) for axis in (1, 0))
        kinds["hole"] = network.units(composites[:, :, rows, columns])
    if full is not None:
        kinds["full"] = network.units(tensor(full))
    found |= {f"diversity_{kind}_{network.name}": spread(network, u) for kind, u in kinds.items()}
    maps = perceptual_map(to_photo, composites.shape[2:])
    return found | {f"diversity_score_{network.name}": metrics.diversity_score(maps[None])[0]}


def around_hole(touched: np.ndarray) -> slice:
    """Return what the hole touches along an axis (side,), or SEEN pixels around it where that is less."""
    first, last = map(int, np.flatnonzero(touched)[[0, -1]])
    length = max(SEEN, last + 1 - first)
    start = min(max(0, first - (length - (last + 1 - first)) // 2), len(touched) - length)
    return slice(start, start + length)


def spread(network: Perceptual, units: Sequence[Tensor]) -> Tensor:
    """Return the mean distance over all pairs of samples from their unit feature maps: ()."""
    pairs = torch.triu_indices(len(units[0]), len(units[0]), 1).t()
    each = [network.between([u[i : i + 1] for u in units], [u[j : j + 1] for u in units]) for i, j in pairs]
    return torch.stack([mean_distance(d)[0] for d in each]).mean()


def notes(found: Mapping[str, float], count: int) -> list[str]:
    """Return what a reader of the figures of so many pictures must know."""
    few = [key for key in found if count < metric(key).least]
    needed = ", ".join(f"{metric(key).name} ({metric(key).least:,})" for key in few)
    return [f"{count:,} {'picture is' if count == 1 else 'pictures are'} too few for {needed}"] if few else []


def tensor(pictures: np.ndarray) -> Tensor:
    """Return uint8 (N, H, W, 3) as float32 (N, 3, H, W) in 0..255."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()


def figures(scores: Scores) -> dict[str, float]:
    """Return the figures of an evaluation by name; those of a feature network carry its name."""
    found: dict[str, float] = {}
    for key, value in scores.values.items():
        if key in PER_COMPLETION or key.startswith(("perceptual_", "diversity_")):
            there = value[~np.isnan(value)].astype(np.float64)  # a hole without a border has no step across it
            found |= {key: float(there.mean())} if there.size else {}
    if found.get("seam_photo", 0) > 0:
        found["seam_ratio"] = found["seam"] / found["seam_photo"]
    for name in [k.removeprefix("real_") for k in scores.values if k.startswith("real_")]:
        found |= distribution(name, *(scores.values[f"{k}_{name}"] for k in ("real", "features", "logits")))
    return found


def distribution(name: str, real: np.ndarray, features: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return figures of whole sets: features (N, F) of photos, (N, S, F) and logits (N, S, C) of completions.

    Every sample of the pictures makes one set; figures are means over the sets, so that they do not shrink with S.
    """
    each, parts = [], min(SPLITS, len(real))
    for x, scores in zip(features.swapaxes(0, 1), logits.swapaxes(0, 1), strict=True):
        found = {"FD": metrics.frechet_distance(x, real)}
        if len(real) >= 10:
            found["KD"] = metrics.kernel_distance(x, real)
            found["precision"], found["recall"] = metrics.precision_recall(real, x)
            found["P-IDS"], found["U-IDS"] = metrics.paired_inception_discriminative(real, x)
        found["IS"] = metrics.inception_score(scores, parts)
        found["MIS"] = metrics.modified_inception_score(scores, parts)
        each.append(found)
    return {metric_name(figure, name): float(np.mean([found[figure] for found in each])) for figure in each[0]}


def metric_name(figure: str, network: str) -> str:
    """Name a figure after its network; with Inception it has the field's name: FID, KID, IS."""
    if network == "Inception":
        return {"FD": "FID", "KD": "KID"}.get(figure, figure)
    return f"{figure}-{network}"
