"""Measures as pure functions of pictures and features.

Pictures are (N, 3, H, W) in 0..255; a measure of pictures gives one figure a picture. Features and logits are arrays
or tensors (N, F) of a network that is named beside every figure: only the Inception of `inception.py` makes "FID".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Array = np.ndarray | Tensor
SSIM = Literal["skimage7", "gauss11"]
ROWS = 4096  # features at once


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of pictures as a fraction of full scale, 0..1: (N,)."""
    return (a.float() - b.float()).abs().mean((1, 2, 3)) / 255


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return decibels between pictures (N, 3, H, W) in 0..255, over the whole picture: (N,)."""
    return 10 * (255**2 / ((a.float() - b.float()) ** 2).mean((1, 2, 3))).log10()


def ssim(a: Tensor, b: Tensor, variant: SSIM = "gauss11") -> Tensor:
    """Return the structural similarity of pictures, channel by channel and averaged, at most 1: (N,).

    "gauss11": an 11 x 11 Gaussian of deviation 1.5 and population covariance (Wang et al. 2004, section III.C).
    "skimage7": a flat 7 x 7 window and sample covariance, the defaults of scikit-image's structural_similarity.
    Windows that leave the picture do not count (torchmetrics counts them, reflected, and so differs); K1 = 0.01,
    K2 = 0.03, range 255. The variants differ: name the one used. Raises ValueError for a picture below the window.
    """
    from skimage.metrics import structural_similarity

    gauss: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    chosen = gauss if variant == "gauss11" else {}
    pairs = zip(a.double().numpy(), b.double().numpy(), strict=True)
    found = [structural_similarity(*pair, data_range=255, channel_axis=0, **chosen) for pair in pairs]
    return torch.tensor(found, dtype=torch.float32)


def inception_score(logits: Array, splits: int = 10) -> float:
    """Return exp(mean KL(p(y|x) || p(y))), averaged over `splits` equal parts in the order given.

    From 1 to the number of classes; higher is better (Salimans et al. 2016). What is left over after equal parts does
    not count, as in the authors' code.
    """
    scores = []
    for logp in _parts(logits, splits):
        p = np.exp(logp)
        marginal = np.log(p.mean(0).clip(np.finfo(float).tiny))
        scores.append(math.exp((p * (logp - marginal)).sum(1).mean()))
    return float(np.mean(scores))


def _parts(logits: Array, splits: int) -> list[np.ndarray]:
    """Return the log probabilities of so many equal parts. Raises ValueError when there are fewer pictures."""
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} pictures cannot be split in {splits} parts")
    each = len(logits) // splits
    return np.split(torch.as_tensor(logits[: each * splits]).double().log_softmax(1).numpy(), splits)


def modified_inception_score(logits: Array, splits: int = 1) -> float:
    """Return exp(mean of sum p(y|x) log p(y|x)), averaged over `splits` equal parts: from 1 / classes to 1.

    That is e to minus the mean entropy; higher is better. The score for pictures of one kind, where the spread of p(y)
    says nothing (UCTGAN 2020; Table 1 of the paper).
    """
    return float(np.mean([math.exp((np.exp(logp) * logp).sum(1).mean()) for logp in _parts(logits, splits)]))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of two Gaussians fitted to features (N, F) and (M, F); lower is nearer.

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, equation 6). With A = X'X and B = Y'Y the
    trace of the root is the sum of the singular values of X Y', which stays exact where A or B is singular.
    Name the feature network beside the figure.
    """
    (mean_a, x), (mean_b, y) = _moments(a), _moments(b)
    roots = np.linalg.svd(x @ y.T, compute_uv=False)
    difference = mean_a - mean_b
    return float(difference @ difference + (x**2).sum() + (y**2).sum() - 2 * roots.sum())


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (F,) and a factor X (at most F, F) of the sample covariance X'X, a block of rows at a time."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two features at least, not {len(features)}")
    mean = features.mean(0, dtype=np.float64)
    x = np.zeros((0, features.shape[1]))
    for k in range(0, len(features), ROWS):
        x = np.asarray(np.linalg.qr(np.concatenate([x, features[k : k + ROWS] - mean]), mode="r"))
    return mean, x / math.sqrt(len(features) - 1)


def kernel_distance(a: Array, b: Array, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """Return the squared maximum mean discrepancy of features, averaged over random subsets; 0 is alike.

    The unbiased estimate with the kernel (x.y / F + 1)^3 (Bińkowski et al. 2018; "KID" with Inception features), so it
    can be below 0. A subset draws `size` features of each set without replacement, fewer where a set has fewer.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise ValueError("the unbiased estimate needs two features of each set at least")
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x, y = (np.asarray(f[rng.choice(len(f), size, replace=False)], np.float64) for f in (a, b))
        within_x, within_y, across = ((u @ v.T / u.shape[1] + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
        within = (within_x.sum() - np.trace(within_x) + within_y.sum() - np.trace(within_y)) / (size * (size - 1))
        values.append(within - 2 * across.mean())
    return float(np.mean(values))


def paired_inception_discriminative(real: Array, fake: Array) -> tuple[float, float]:
    """Return P-IDS and U-IDS as fractions: how often a linear SVM is fooled; higher is better.

    `fake[k]` completes `real[k]`. The SVM is fitted to both sets and judged on them: P-IDS is the fraction of pairs
    whose fake looks more real than its own photo, U-IDS that of wrong labels (Zhao et al. 2021, CoModGAN, section 4).
    Raises ValueError for sets that are not paired.
    """
    if real.shape != fake.shape:
        raise ValueError(f"P-IDS needs pairs: {len(real)} real and {len(fake)} fake features")
    from sklearn.svm import LinearSVC

    inputs = np.concatenate([np.asarray(real, np.float64), np.asarray(fake, np.float64)])
    targets = np.repeat([1, 0], len(real))
    svm = LinearSVC(dual=False).fit(inputs, targets)  # type: ignore[arg-type]  # its stub forgets booleans
    paired = np.mean(svm.decision_function(inputs[len(real) :]) > svm.decision_function(inputs[: len(real)]))
    return float(paired), float(1 - svm.score(inputs, targets))


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """Return the fraction of fakes inside the real manifold and the fraction of reals inside the fake one.

    A manifold is the union of balls around the features of a set, each reaching to its k-th nearest neighbour in that
    set (Kynkäänniemi et al. 2019, equations 1 and 2). Raises ValueError unless both sets have more than `k` features.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} features: {len(real)} real, {len(fake)} fake")
    x, y = torch.as_tensor(real).double(), torch.as_tensor(fake).double()
    return _covered(y, x, k), _covered(x, y, k)


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    radii = torch.cat([d.kthvalue(k + 1, dim=1).values for d in _distances(centres, centres)])  # the first is itself
    inside = torch.cat([(d <= radii).any(1) for d in _distances(points, centres)])
    return float(inside.double().mean())


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    return (torch.cdist(rows, y) for rows in x.split(ROWS // 4))


def mean_distance(layers: Sequence[Tensor]) -> Tensor:
    """Average distances (N, h, w) over places and add the layers: (N,)."""
    assert layers, "no layers"
    return torch.stack([d.mean((1, 2)) for d in layers]).sum(0)


def unit_features(layers: Sequence[Tensor]) -> list[Tensor]:
    """Scale feature maps (N, C, h, w) to unit length at every place."""
    return [F.normalize(f.float(), dim=1, eps=1e-10) for f in layers]


def unit_differences(
    a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Iterator[Tensor]:
    """Yield for each layer of unit features (N, C, h, w) their weighted squared difference: (N, h, w)."""
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        squared = (x - y) ** 2
        yield squared.sum(1) if weights is None else torch.einsum("nchw,c->nhw", squared, weights[k])


def perceptual_map(layers: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Return the distance at every pixel: the layers (N, h, w) enlarged to `size` bilinearly and added: (N, H, W)."""
    return torch.stack([F.interpolate(d[:, None], list(size), mode="bilinear")[:, 0] for d in layers]).sum(0)


def diversity_score(maps: Tensor) -> Tensor:
    """Return 100 (global best - local best) / global best for maps (N, K, H, W) of distance to the photo: (N,).

    K samples a picture; the global best is the smallest mean of a map, the local best the mean of the smallest distance
    at every pixel. 0 when one sample is best everywhere, or equals the photo. This is the score of the NTIRE challenges
    on learning the super-resolution space (2021), there with K = 10 and LPIPS-Alex maps; challenges on inpainting may
    define theirs otherwise.
    """
    whole = maps.double().mean((2, 3)).amin(1)
    local = maps.double().amin(1).mean((1, 2))
    return torch.where(whole > 0, 100 * (whole - local) / whole.clamp_min(1e-300), 0).float()


def seam_error(composite: Tensor, mask: Tensor, ring: int = 8) -> tuple[Tensor, Tensor]:
    """Return the step across the hole's border and the photo's own beside it, in grey levels: (N,) and (N,).

    The mean absolute difference over pairs of 4-neighbours of which one lies in the hole (`mask` > 0, (N or 1, 1, H,
    W)) and one outside; and over pairs that both lie outside, within `ring` pixels of the hole (rows or columns,
    whichever is more). A seam shows where the first is well above the second. NaN where there is no such pair.
    """
    hole = mask > 0
    near = F.max_pool2d(hole.float(), 2 * ring + 1, 1, ring) > 0
    band = near & ~hole
    return _steps(composite, hole, ~hole), _steps(composite, band, band)


def _steps(picture: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return the mean difference of neighbours of which one is in `one` and the other in `other`: (N,)."""
    total, count = picture.new_zeros(len(picture), dtype=torch.float64), one.new_zeros(len(one), dtype=torch.float64)
    for dim in (2, 3):
        n = picture.shape[dim] - 1
        (a, b), (c, d) = ((x.narrow(dim, 0, n), x.narrow(dim, 1, n)) for x in (one, other))
        pairs = (a & d) | (b & c)
        step = picture.float().diff(dim=dim).abs().mean(1, keepdim=True)
        total += (step * pairs).sum((1, 2, 3), dtype=torch.float64)
        count += pairs.sum((1, 2, 3))
    return (total / count).float()
