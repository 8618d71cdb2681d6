"""`manifill evaluate`: models, baselines and folders measured alike; shards merge to the single run's figures."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from manifill import Inpainter, cli
from manifill.config import Fit
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError
from manifill.evaluate import metrics, run
from manifill.evaluate.features import load_judges
from manifill.evaluate.methods import Classical, Folder, ModelMethod, Picking, TrueCodes
from manifill.evaluate.scores import Scores, distribution, figures, merge
from manifill.photos.tensors import to_tensor, to_uint8
from manifill.sampling.naive import Sampled


class Small(nn.Module):
    """A feature network of the shape that the evaluation wants, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 5, stride=4), nn.Conv2d(6, 8, 3, stride=2)
        self.last = nn.Linear(8, 10)

    @torch.jit.export
    def pyramid(self, x: Tensor) -> list[Tensor]:
        one = torch.relu(self.first(x / 255 - 0.5))
        return [one, torch.relu(self.second(one))]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.pyramid(x)[1].mean((2, 3))
        return features, self.last(features)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("networks") / "small.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what feature networks come in
        torch.jit.script(Small().eval()).save(str(path))
    return path


@pytest.fixture
def task(pictures: Path, network: Path) -> run.Task:
    return run.task(Pictures([pictures], 64, 6), "lama-medium", *load_judges([network]))


def method(inpainter: Inpainter, samples: int = 3) -> ModelMethod:
    return ModelMethod(inpainter, Picking(samples), inpainter.options(), seed=5)


def test_shards_merge_to_the_single_run_exactly(
    inpainter: Inpainter, pictures: Path, network: Path, tmp_path: Path
) -> None:
    networks = load_judges([network])
    whole = run.task(Pictures([pictures], 64, 12), "lama-medium", *networks).score(method(inpainter), quiet=True)
    for k in range(2):
        part = run.task(Pictures([pictures], 64, 12), "lama-medium", *networks, shard=f"{k}/2")
        run.evaluate(part, [method(inpainter)], tmp_path / f"part{k}")
        assert not (tmp_path / f"part{k}" / "figures.json").exists()
    joined = run.join([tmp_path / "part0", tmp_path / "part1"], tmp_path / "joined")
    assert next(iter(joined.values()))["figures"] == figures(whole)
    with pytest.raises(ValueError, match="6 of 12 pictures"):
        run.join([tmp_path / "part0"], tmp_path / "half")
    with pytest.raises(ValueError, match=r"no scores_\*of\*\.npz"):
        run.join([tmp_path / "joined"], tmp_path / "none")


def test_shards_of_different_evaluations_do_not_merge(inpainter: Inpainter, task: run.Task) -> None:
    scores = task.score(method(inpainter), quiet=True)
    other = Scores(scores.about | {"temperature": 0.1}, scores.index, scores.values)
    with pytest.raises(ValueError, match="differ in temperature"):
        merge([scores, other])


def test_shards_of_two_days_merge(inpainter: Inpainter, task: run.Task) -> None:
    whole = task.score(method(inpainter), quiet=True)
    halves = [
        Scores(whole.about | {"date": date}, whole.index[rows], {k: v[rows] for k, v in whole.values.items()})
        for date, rows in (("2026-01-01", slice(3, 6)), ("2026-01-02", slice(0, 3)))
    ]
    joined = merge(halves)
    assert joined.about["date"] == "2026-01-01"
    assert figures(joined) == figures(whole)


def test_scores_survive_a_file(inpainter: Inpainter, task: run.Task, tmp_path: Path) -> None:
    scores = task.score(method(inpainter), quiet=True)
    scores.save(tmp_path / "scores.npz")
    again = Scores.load(tmp_path / "scores.npz")
    assert again.about == scores.about
    assert figures(again) == figures(scores)
    (tmp_path / "scores.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"scores\.npz"):
        Scores.load(tmp_path / "scores.npz")


@pytest.mark.parametrize("count", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_the_figures_are_what_they_are_called(pictures: Path, network: Path, count: int) -> None:
    """Of a trained model: what the reference model draws hardly shows in what it paints."""
    inpainter = Inpainter.from_pretrained("faces-128")
    task = run.task(Pictures([pictures], 128, count), "lama-medium", *load_judges([network]))
    scores = task.score(method(inpainter), quiet=True)
    found = figures(scores)
    for k in range(count):
        photo, hole = task.pictures.array[k], task.holes(k)
        done = method(inpainter).complete(photo, hole, k, task.pictures.names[k]).composites
        assert np.array_equal(done[:, ~hole], np.broadcast_to(photo[~hole], done[:, ~hole].shape))
        wanted = np.abs(done.astype(float) - photo).mean((1, 2, 3)) / 255
        assert np.allclose(scores.values["l1"][k], wanted, rtol=1e-4)
    assert found["bits"] > 0
    assert found["diversity_composite_small"] > 0
    assert found["diversity_hole_small"] > found["diversity_composite_small"]  # the same, less diluted
    assert scores.about["weights"] == inpainter.weights
    assert {"protocol", "pictures", "masks_digest", "seeds", "versions"} <= scores.about.keys()


def test_figures_are_named_after_their_network() -> None:
    rng = np.random.default_rng(0)
    real, features, logits = rng.normal(size=(20, 4)), rng.normal(size=(20, 2, 4)), rng.normal(size=(20, 2, 3))
    found = distribution("Inception", real, features, logits)
    assert found.keys() == {"FID", "KID", "IS", "MIS", "P-IDS", "U-IDS", "precision", "recall"}
    assert set(distribution("Other", real, features, logits)) >= {"FD-Other", "KD-Other", "IS-Other"}
    each = [metrics.frechet_distance(features[:, s], real) for s in range(2)]
    assert found["FID"] == pytest.approx(np.mean(each))


def test_inception_scores_are_those_of_the_authors_code() -> None:
    """Ten parts of each set of samples, what is left over not counted, then the mean of parts and sets."""
    logits = np.random.default_rng(1).normal(size=(27, 3, 5)) * 2
    scores: dict[str, list[float]] = {"IS": [], "MIS": []}
    for s in range(3):
        p = np.exp(logits[:, s]) / np.exp(logits[:, s]).sum(1, keepdims=True)
        for part in (p[2 * k : 2 * k + 2] for k in range(10)):
            entropy = [-sum(q * np.log(q)) for q in part]
            cross = [-sum(q * np.log(part.mean(0))) for q in part]
            scores["IS"].append(np.exp(np.mean(np.subtract(cross, entropy))))
            scores["MIS"].append(np.exp(-np.mean(entropy)))
    features = np.random.default_rng(2).normal(size=(27, 3, 4))
    found = distribution("Inception", features[:, 0], features, logits)
    for name, values in scores.items():
        assert found[name] == pytest.approx(np.mean(values), rel=1e-6)


def test_the_photo_itself_is_perfect(task: run.Task, tmp_path: Path) -> None:
    for name, picture in zip(task.pictures.names, task.pictures.array, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{Path(name).stem}.png")
    found = figures(task.score(Folder(tmp_path), quiet=True))
    assert found["l1"] == 0
    assert found["ssim_gauss11"] == pytest.approx(1)
    assert found["FD-small"] == pytest.approx(0, abs=1e-3)


def test_folders_of_results_are_checked(task: run.Task, tmp_path: Path) -> None:
    photo, hole = task.pictures.array[0], task.holes(0)
    with pytest.raises(DataError, match="no such folder"):
        Folder(tmp_path / "absent")
    with pytest.raises(DataError, match="no result for face"):
        Folder(tmp_path).complete(photo, hole, 0, "face.jpg")
    for name in ("face_000.png", "face_001.png", "facet.png", "other.png"):
        Image.fromarray(photo).save(tmp_path / name)
    folder = Folder(tmp_path)
    assert folder.complete(photo, hole, 0, "face.jpg").composites.shape == (2, 64, 64, 3)
    with pytest.raises(DataError, match=r"1 results for other\.jpg, 2 for the pictures before"):
        folder.check(["face.jpg", "other.jpg"])
    Image.fromarray(photo[:32]).save(tmp_path / "small.png")
    with pytest.raises(DataError, match="64x32 pixels; its photo has 64x64"):
        Folder(tmp_path).complete(photo, hole, 0, "small.png")


def test_true_codes_are_painted_as_the_model_paints(inpainter: Inpainter, task: run.Task) -> None:
    photo, hole = task.pictures.array[0], task.holes(0)
    done = TrueCodes.of(inpainter, Fit(seamless=False)).complete(photo, hole, 0, "").composites[0]
    assert np.array_equal(done[~hole], photo[~hole])
    image, mask = to_tensor(photo), torch.from_numpy(hole)[None, None].float()
    codes = inpainter.vqvae.encode(image).structure_codes
    wanted = inpainter.paint(inpainter.image_features(image, mask), codes, mask)
    assert np.abs(done[hole].astype(int) - to_uint8(wanted)[0][hole]).max() <= 1


@pytest.mark.parametrize("seamless", [True, False])
def test_true_codes_are_pasted_as_completions_are(
    inpainter: Inpainter, task: run.Task, monkeypatch: pytest.MonkeyPatch, seamless: bool
) -> None:
    photo, hole, fit = task.pictures.array[0], task.holes(0), Fit("resize", seamless=seamless, thin=False)
    _, true_codes = run.methods([inpainter], Picking(1), 0, {}, "exact", fit, (), (), true_codes=True)
    found = true_codes.complete(photo, hole, 0, "").composites[0]
    sampled = Sampled(inpainter.vqvae.encode(to_tensor(photo)).structure_codes, torch.zeros(1, 8, 8))
    monkeypatch.setattr(Inpainter, "sample", lambda *_: sampled)
    (wanted,) = inpainter(photo, hole, num_samples=1, seed=0, fit=fit)
    apart = np.abs(found.astype(int) - wanted.rgb)  # rounded once or twice; on flat ground a level more makes two
    assert apart.max() <= 2
    assert (apart > 1).mean() < 1e-3


@pytest.mark.parametrize("name", ["telea", "navier-stokes", "biharmonic"])
def test_baselines_fill_the_hole_alone(task: run.Task, name: str) -> None:
    photo, hole = task.pictures.array[0], task.holes(0)
    (done,) = Classical(name).complete(photo, hole, 0, "").composites
    assert np.array_equal(done[~hole], photo[~hole])
    error = np.abs(done[hole].astype(float) - photo[hole]).mean()
    assert error < np.abs(photo[hole].astype(float) - photo[~hole].mean(0)).mean()


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manifill", "evaluate", *map(str, words)])
    return cli.main()


def test_the_command_writes_figures_and_a_page(
    pictures: Path, network: Path, reference_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["--data", pictures, "--model", reference_model, "--baselines", "telea", "--features", network]
    monkeypatch.setattr(run, "CURVE", ((1.0, 1.0), (0.5, 0.9)))
    assert run_cli(monkeypatch, *words, "--out", out, "--count", 10, "--samples", 2, "--report", "--curve") == 0
    result = json.loads((out / "figures.json").read_text())
    assert set(result["methods"]) == {"model", "telea"}
    assert [p["temperature"] for p in result["curve"]] == [1.0, 0.5]
    page = (out / "report.html").read_text()
    assert "24.56" in page
    for image in ("curve.png", "grid_model.png", "grid_telea.png"):
        assert image in page
        with Image.open(out / image) as shown:
            assert shown.size[0] > 100
    assert "http" not in page  # nothing is fetched


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "nonsense"], "nonsense"),
        (["--shard", "2/2"], "shard is '2/2'"),
        (["--samples", "0"], "num_samples is 0; expected 1 or more"),
        (["--features", "absent.ts"], "absent.ts"),
        (["--pred", "absent"], "absent: no such folder"),
        (["--curve"], "a curve needs a feature network"),
    ],
)
def test_mistakes_end_with_a_sentence(
    words: list[str],
    message: str,
    pictures: Path,
    reference_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    code = run_cli(monkeypatch, "--data", pictures, "--model", reference_model, "--out", tmp_path / "out", *words)
    assert code == 2
    assert message in capsys.readouterr().err


def test_the_best_of_many_counts_where_a_protocol_says_so(inpainter: Inpainter, task: run.Task) -> None:
    assert run.picked("pic-best50", None, None, "diverse") == Picking(10, 50, "likely", nearest=True)
    assert run.picked("pic-best50", 3, None, "diverse") == Picking(3)
    assert run.picked("paper-centre", None, 9, "likely") == Picking(5, 9, "likely")
    photo, hole = task.pictures.array[0], task.holes(0)
    options = inpainter.options()
    each = ModelMethod(inpainter, Picking(4, 6, "likely"), options).complete(photo, hole, 0, "").composites
    best = ModelMethod(inpainter, Picking(4, 6, "likely", nearest=True), options).complete(photo, hole, 0, "")
    errors = np.abs(each.astype(int) - photo).sum((1, 2, 3))
    assert np.array_equal(best.composites, each[errors.argmin()][None])
