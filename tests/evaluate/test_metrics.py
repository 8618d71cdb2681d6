"""Every measure against an independent implementation, and cases whose value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from scipy.spatial.distance import cdist
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manifill.evaluate import metrics
from manifill.evaluate.metrics import (
    diversity_score,
    frechet_distance,
    inception_score,
    kernel_distance,
    modified_inception_score,
    precision_recall,
    seam_error,
    ssim,
    unit_differences,
    unit_features,
)


@pytest.fixture
def pair(face: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty pictures, more than one batch, and noisy copies: uint8 (20, 3, 40, 48)."""
    rng = np.random.default_rng(0)
    a = np.stack([face[k : k + 40, 2 * k : 2 * k + 48] for k in range(20)])
    b = (a + rng.normal(0, 1, a.shape) * np.linspace(1, 40, 20)[:, None, None, None]).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(a).permute(0, 3, 1, 2), torch.from_numpy(b).permute(0, 3, 1, 2)


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    """Two sets of correlated features, float32 (300, 12) and (250, 12)."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12))
    b = rng.normal(size=(250, 12)) @ rng.normal(size=(12, 12)) + 0.5
    return a.astype(np.float32), b.astype(np.float32)


def hwc(x: torch.Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).numpy()


def test_l1_and_psnr(pair) -> None:
    a, b = pair
    for k in range(20):
        x, y = hwc(a[k]), hwc(b[k])
        assert metrics.l1(a, b)[k].item() == pytest.approx(np.abs(x / 255 - y / 255).mean(), rel=1e-5)
        assert metrics.psnr(a, b)[k].item() == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), rel=1e-5)
    shifted = torch.full((1, 3, 8, 8), 100.0) + 51
    assert metrics.l1(torch.full((1, 3, 8, 8), 100.0), shifted).item() == pytest.approx(0.2)
    assert metrics.psnr(torch.full((1, 3, 8, 8), 100.0), shifted).item() == pytest.approx(20 * math.log10(5))
    assert metrics.psnr(a, a).isposinf().all()


def test_ssim_with_a_flat_window_is_that_of_scikit_image(pair) -> None:
    a, b = pair
    wanted = [structural_similarity(hwc(x), hwc(y), channel_axis=2) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b, "skimage7").numpy() == pytest.approx(wanted, rel=1e-4)


def test_ssim_with_a_gaussian_window(pair) -> None:
    a, b = pair
    # The definition, window by window, on one channel of a small picture.
    x, y = a[7, 0, :16, :14].double().numpy(), b[7, 0, :16, :14].double().numpy()
    g = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    w = np.outer(g, g) / g.sum() ** 2
    values = []
    for i in range(6):
        for j in range(4):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq, c = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum(), (w * (p - mp) * (q - mq)).sum()
            above = (2 * mp * mq + 6.5025) * (2 * c + 58.5225)
            values.append(above / ((mp**2 + mq**2 + 6.5025) * (vp + vq + 58.5225)))
    small_a, small_b = (t[7:8, :1, :16, :14].expand(1, 3, -1, -1) for t in (a, b))
    assert ssim(small_a, small_b, "gauss11").item() == pytest.approx(np.mean(values), rel=1e-5)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    wanted = [structural_similarity(hwc(x), hwc(y), **options) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b, "gauss11").numpy() == pytest.approx(wanted, rel=1e-4)


def test_ssim_with_a_gaussian_window_is_that_of_torchmetrics(pair) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    a, b = pair
    _, full = image.structural_similarity_index_measure(
        a.double(), b.double(), data_range=255.0, reduction="none", return_full_image=True
    )
    wanted = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # without the windows that leave the picture
    assert ssim(a, b, "gauss11").numpy() == pytest.approx(wanted.numpy(), rel=1e-4)


@pytest.mark.parametrize("variant", ["skimage7", "gauss11"])
def test_ssim_of_known_pictures(variant) -> None:
    x = torch.rand(2, 3, 20, 20) * 255
    assert torch.allclose(ssim(x, x, variant), torch.ones(2))
    flat = torch.full((1, 3, 20, 20), 100.0)  # only the luminance term is left
    wanted = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    assert ssim(flat, flat + 50, variant).item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ValueError, match="at least"):
        ssim(x[..., :6], x[..., :6], variant)


def test_inception_score() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = []
    for part in p.reshape(5, 10, 7):
        wanted.append(math.exp(np.mean([sum(q * np.log(q / part.mean(0))) for q in part])))
    assert inception_score(logits.astype(np.float32), 5) == pytest.approx(np.mean(wanted), rel=1e-4)
    certain = np.eye(7).repeat(3, 0) * 1000
    assert inception_score(certain, 1) == pytest.approx(7)
    assert inception_score(torch.ones(20, 7), 2) == pytest.approx(1)
    with pytest.raises(ValueError, match="parts"):
        inception_score(certain[:3], 4)


def test_modified_inception_score_rises_from_one_over_classes_to_one() -> None:
    assert modified_inception_score(np.zeros((5, 8))) == pytest.approx(1 / 8)
    assert modified_inception_score(np.eye(8) * 1000) == pytest.approx(1)
    assert modified_inception_score(np.array([[1000.0, 1000.0, 0.0], [1000.0, 0.0, 0.0]])) == pytest.approx(2**-0.5)
    # An entropy of 3.709 nats is the paper's 0.0245 for faces.
    classes = 1008
    top = scipy.optimize.brentq(
        lambda t: math.log(modified_inception_score(np.r_[t, np.zeros(classes - 1)][None])) + 3.709, 0, 50
    )
    assert modified_inception_score(np.r_[top, np.zeros(classes - 1)][None]) == pytest.approx(0.0245, rel=1e-3)


def test_frechet_distance_against_a_matrix_root(features) -> None:
    a, b = (f.astype(np.float64) for f in features)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.asarray(scipy.linalg.sqrtm(covariances[0] @ covariances[1]))
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))
    assert frechet_distance(*features) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("rows", [300, 5])
def test_frechet_distance_of_a_set_against_itself_is_nothing(features, rows: int) -> None:
    a = features[0][:rows]  # with 5 rows the covariance is singular
    spread = a.astype(np.float64).var(0).sum()
    assert abs(frechet_distance(a, a)) < 1e-12 * spread
    assert frechet_distance(a, a + 2) == pytest.approx(12 * 4, rel=1e-5)
    assert frechet_distance(a, a.mean(0) + 3 * (a - a.mean(0))) == pytest.approx(
        4 * spread * rows / (rows - 1), rel=1e-4
    )


def test_frechet_distance_in_blocks_of_rows(features, monkeypatch) -> None:
    whole = frechet_distance(*features)
    monkeypatch.setattr(metrics, "ROWS", 64)
    assert frechet_distance(*features) == pytest.approx(whole, rel=1e-10)


def test_kernel_distance(features) -> None:
    a, b = (f[:40].astype(np.float64) for f in features)

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 12 + 1) ** 3

    within = [kernel(s[i], s[j]) for s in (a, b) for i in range(40) for j in range(40) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    wanted = sum(within) / (40 * 39) - 2 * np.mean(across)
    assert kernel_distance(a, b, subsets=3) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    mean = kernel_distance(*features, subsets=20, size=50, seed=1)
    assert mean == kernel_distance(*features, subsets=20, size=50, seed=1)
    assert mean != kernel_distance(*features, subsets=20, size=50, seed=2)
    with pytest.raises(ValueError, match="two features"):
        kernel_distance(a[:1], b)


def test_kernel_distance_is_unbiased() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 2000, 6))
    each = [kernel_distance(a, b, 1, 200, seed) for seed in range(30)]
    alike = np.mean(each)
    assert abs(alike) < 3 * np.std(each) / math.sqrt(30)
    assert kernel_distance(a, b + 0.5, 30, 200) > 20 * abs(alike)


def test_kernel_distance_is_that_of_torchmetrics(features) -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = (torch.from_numpy(f[:100]).double() for f in features)
    assert kernel_distance(a, b, subsets=1) == pytest.approx(kid.poly_mmd(a, b).item(), rel=1e-4)


def test_separable_sets_fool_no_machine() -> None:
    pytest.importorskip("sklearn")
    real = np.random.default_rng(0).normal(size=(60, 4))
    assert metrics.paired_inception_discriminative(real, real + 20) == (0, 0)
    assert metrics.paired_inception_discriminative(real, real)[1] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="pairs"):
        metrics.paired_inception_discriminative(real, real[1:])


def test_pairs_fool_the_machine_that_sees_sets() -> None:
    svm = pytest.importorskip("sklearn.svm")
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(80, 4)), rng.normal(size=(80, 4)) + 0.4
    paired, unpaired = metrics.paired_inception_discriminative(real, fake)
    w = svm.LinearSVC(dual=False).fit(np.r_[real, fake], [True] * 80 + [False] * 80)
    scores = [(x @ w.coef_[0] + w.intercept_[0], y @ w.coef_[0] + w.intercept_[0]) for x, y in zip(real, fake)]  # noqa: B905
    assert paired == pytest.approx(np.mean([y > x for x, y in scores]))
    assert unpaired == pytest.approx(np.mean([[x <= 0, y > 0] for x, y in scores]))
    assert 0 < paired < 0.5
    assert 0 < unpaired < 0.5


def test_precision_and_recall(features, monkeypatch) -> None:
    a, b = features

    def covered(points, centres):
        radii = np.sort(cdist(centres, centres), axis=1)[:, 3]
        return np.mean([any(d <= r for d, r in zip(row, radii, strict=True)) for row in cdist(points, centres)])

    wanted = covered(b, a), covered(a, b)
    assert 0.02 < min(wanted) < max(wanted) < 0.98
    assert precision_recall(a, b) == pytest.approx(wanted)
    monkeypatch.setattr(metrics, "ROWS", 64)
    assert precision_recall(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(wanted)
    assert precision_recall(a, a) == (1, 1)
    assert precision_recall(a, a + 1000) == (0, 0)
    with pytest.raises(ValueError, match="neighbours"):
        precision_recall(a[:3], b)


def test_precision_and_recall_differ() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) * 0.01
    precision, recall = precision_recall(wide, narrow)
    assert precision == 1
    assert recall < 0.05


def test_perceptual_distance_of_layers() -> None:
    a, b = [torch.rand(2, 5, 4, 4), torch.rand(2, 3, 2, 2)], [torch.rand(2, 5, 4, 4), torch.rand(2, 3, 2, 2)]
    wanted = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = (t[0].permute(1, 2, 0).reshape(-1, t.shape[1]).numpy() for t in (x, y))
        wanted += np.mean([((p / np.linalg.norm(p) - q / np.linalg.norm(q)) ** 2).sum() for p, q in zip(x, y)])  # noqa: B905
    layers, none = (list(unit_differences(unit_features(a), unit_features(other))) for other in (b, a))
    assert metrics.mean_distance(layers)[0].item() == pytest.approx(wanted, rel=1e-5)
    assert metrics.mean_distance(none).abs().max() == 0
    assert metrics.perceptual_map(layers, (8, 8)).mean((1, 2)) == pytest.approx(metrics.mean_distance(layers), rel=0.2)


def test_diversity_score() -> None:
    left, right = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    left[..., :2], right[..., 2:] = 1, 3
    apart = torch.cat([left, right], 1)  # each is perfect where the other is not
    assert diversity_score(apart).tolist() == [100]
    assert diversity_score(torch.cat([left, left], 1)).tolist() == [0]
    assert diversity_score(torch.cat([left + 1, right + 1], 1)).item() == pytest.approx(100 * (1.5 - 1) / 1.5)
    assert diversity_score(torch.zeros(2, 3, 4, 4)).tolist() == [0, 0]


def test_seam_of_a_flat_picture_with_a_step() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 10:20, 12:22] = 1
    flat = torch.full((2, 3, 32, 32), 90.0)
    flat[1] += 30 * mask[0]
    seam, photo = seam_error(flat, mask)
    assert seam.tolist() == [0, 30]
    assert photo.tolist() == [0, 0]


def test_seam_of_a_slope_is_the_photo_s_own_gradient() -> None:
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 16:24, 16:24] = 1
    slope = (3 * torch.arange(40.0)).expand(1, 3, 40, 40)
    seam, photo = seam_error(slope, mask, ring=4)
    assert seam.item() == pytest.approx(1.5)  # two borders across the slope, two along it
    assert photo.item() == pytest.approx(1.5)
    assert seam_error(slope + 10 * mask, mask, ring=4)[0].item() == pytest.approx((10 + (13 + 7) / 2) / 2)


def test_seam_counts_the_ring_alone_and_every_pair() -> None:
    picture = torch.rand(1, 3, 14, 12) * 255
    mask = (torch.rand(1, 1, 14, 12) > 0.8).float()
    hole, x = mask[0, 0].bool().numpy(), picture[0].numpy()
    near = np.zeros_like(hole)
    for i, j in np.argwhere(hole):
        near[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = True
    band, across, beside = near & ~hole, [], []
    for i in range(14):
        for j in range(12):
            for u, v in ((i + 1, j), (i, j + 1)):
                if u < 14 and v < 12:
                    step = np.abs(x[:, i, j] - x[:, u, v]).mean()
                    across += [step] if hole[i, j] != hole[u, v] else []
                    beside += [step] if band[i, j] and band[u, v] else []
    seam, photo = seam_error(picture, mask, ring=1)
    assert seam.item() == pytest.approx(np.mean(across), rel=1e-5)
    assert photo.item() == pytest.approx(np.mean(beside), rel=1e-5)


def test_no_hole_has_no_seam() -> None:
    assert all(v.isnan().all() for v in seam_error(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)))


def test_a_thin_hole_is_looked_at_with_what_surrounds_it() -> None:
    from manifill.evaluate.scores import SEEN, around_hole

    for first, last, side in ((10, 12, 64), (0, 1, 64), (60, 64, 64), (5, 55, 64), (0, 32, 32), (3, 4, 32)):
        touched = np.zeros(side, bool)
        touched[first:last] = True
        found = around_hole(touched)
        assert 0 <= found.start <= first
        assert last <= found.stop <= side
        assert found.stop - found.start == max(SEEN, last - first)
