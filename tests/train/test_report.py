"""The report of a run, what is said while it goes on, and TensorBoard."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from manifill.config import to_dict
from manifill.data.batches import Batches
from manifill.data.pictures import Pictures
from manifill.data.sources import DataError
from manifill.networks.checkpoint import model_hash
from manifill.train import chart, loop, report, tensorboard
from manifill.train.config import RunOptions
from manifill.train.distributed import Share
from manifill.train.logs import read_log
from manifill.train.presets import PRESETS
from manifill.train.report import write_report
from manifill.train.run import train

pytest_plugins = ["page_fixtures"]
OPTIONS = RunOptions(quiet=True, force=True, log_every=5, validate_every=10, checkpoint_every=5)
VOID = {"meta", "img", "br", "path"}


class Page(HTMLParser):
    """A page read strictly: every element is closed, in order; collects text, pictures and addresses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text, self.images, self.addresses = "", [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        values = dict(attrs)
        self.addresses += [values[k] for k in ("src", "href", "action") if k in values]
        if tag == "img":
            assert values["alt"]
            kind, data = values["src"].split(",", 1)
            assert kind == "data:image/jpeg;base64"
            self.images.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of all three stages."""
    out = tmp_path_factory.mktemp("runs") / "a <run> & more"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", write_report)  # tests/conftest.py has other trainings write none
        train(("vqvae", "structure", "texture"), [pictures], out, "tiny", OPTIONS)
    assert (out / "report.html").exists()
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_page_of_a_run(trained: Path) -> None:
    path = write_report(trained)
    page = Page(path)
    assert path == trained / "report.html"
    assert [p.name for p in trained.glob("*.part")] == []
    assert "a <run> & more" in page.text
    assert page.text.count("finished") == 3
    for words in ("40 of 40", "20 of 20", model_hash(trained / "model"), "Bits a code inside the hole", "batch_size"):
        assert words in page.text
    assert "script" not in page.seen
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", path.read_text())
    assert page.seen.count("svg") >= 15
    assert len(page.images) == 3 + 2 + 2  # of 4, 2 and 2 validations the first, middle and latest
    latest = np.asarray(Image.open(trained / "vqvae" / "preview_000040.png"), float)
    assert abs(np.asarray(page.images[2], float) - latest).mean() < 6


def test_previews_stay_small(run: Path, face: np.ndarray) -> None:
    Image.fromarray(np.tile(face, (30, 30, 1))).save(run / "vqvae" / "preview_000050.png")
    images = Page(write_report(run)).images
    assert max(images[2].size) == 1400
    (run / "vqvae" / "preview_000060.png").write_bytes(b"no picture")
    assert "preview_000060.png cannot be read" in Page(write_report(run)).text


def test_what_is_wrong_stands_on_top(run: Path) -> None:
    log, config = run / "structure" / "metrics.jsonl", run / "structure" / "config.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line.update({key: 4.99 for key in ("val_bits_hole", "val_seen_bits_hole") if key in line})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert json.loads(config.read_text())["model"]["vqvae"]["codebook_size"] == 32
    text = Page(write_report(run)).text
    assert "The prior has learnt nothing: 4.99 bits" in text
    assert text.index("learnt nothing") < text.rindex("State")  # it stands in the list of contents, too
    assert "Nothing wrong was found" not in text


def test_a_sound_run_is_told_what_was_looked_for(tmp_path: Path) -> None:
    stub(tmp_path, 30, bits=1.0)
    text = Page(write_report(tmp_path)).text
    assert "Nothing wrong was found" in text
    assert "prior learnt nothing; " in text
    assert "prior memorising: no bits on pictures seen" in text


def test_a_run_in_progress(run: Path) -> None:
    shutil.rmtree(run / "texture")
    (run / "model" / "texture.safetensors").unlink()
    log = run / "structure" / "metrics.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(line for line in lines if json.loads(line)["step"] <= 10) + '\n{"step": 15, "bi')
    text = Page(write_report(run)).text
    assert "in progress, or interrupted10 of 20" in text
    assert "structure/metrics.jsonl: 1 unreadable lines" in text
    assert "texturenot trained in this run" in text
    assert "still needs texture" in text
    assert "Stage texture" not in text


def test_a_run_that_has_hardly_begun(run: Path) -> None:
    for name in ("structure", "texture", "model"):
        shutil.rmtree(run / name)
    lines = (run / "vqvae" / "metrics.jsonl").read_text().splitlines()
    for path in (run / "vqvae").glob("preview_*"):
        path.unlink()
    for count, words in ((1, "No previews yet"), (0, "Nothing is logged yet")):
        (run / "vqvae" / "metrics.jsonl").write_text("".join(line + "\n" for line in lines[:count]))
        text = Page(write_report(run)).text
        assert words in text
        assert "Nothing can be said yet" in text
        assert "There is no model yet" in text


@pytest.mark.parametrize("made", [True, False])
def test_no_run_is_a_mistake(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    with pytest.raises(DataError, match=r"empty: no run to report on; expected a folder vqvae, structure or texture"):
        write_report(folder)
    assert list(tmp_path.rglob("*.html")) == []


def test_time_is_that_of_all_logged_steps(tmp_path: Path) -> None:
    (tmp_path / "vqvae").mkdir()
    (tmp_path / "vqvae" / "config.json").write_text(
        json.dumps({"model": to_dict(PRESETS["tiny"].model), "training": {"steps": 100, "batch_size": 8}})
    )
    lines = [{"step": 50, "pictures_per_s": 4.0}, {"step": 60, "val_psnr": 9.0}, {"step": 100, "pictures_per_s": 8.0}]
    (tmp_path / "vqvae" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_log(tmp_path, "vqvae").seconds == 50 * 8 / 4 + 50 * 8 / 8


def test_smoothing_keeps_a_straight_line_and_the_ends() -> None:
    for count in (1, 2, 39, 1000):
        straight = np.stack([np.arange(count), 3.0 + 2 * np.arange(count)], axis=1)
        assert np.allclose(chart.smoothed(straight), straight)
        assert len(chart.thinned(straight)) <= chart.POINTS
        assert np.array_equal(chart.thinned(straight)[[0, -1]], straight[[0, -1]])


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-1, 1), (5, 5), (1e-6, 1), (3, 4e7), (-2e-9, 1e-9), (2e-3, 9e-2)])
def test_axes_hold_their_values_and_have_ticks(low: float, high: float) -> None:
    points = np.array([[1.0, low], [2.0, high]])
    for curve in (chart.Curve("a", points, False), chart.Curve("a", points[:1], True)):
        bottom, top = chart.limits([curve])
        assert bottom < min(curve.points[:, 1]) <= max(curve.points[:, 1]) < top
        drawn = chart.chart("b", [curve])
        assert "nan" not in drawn
        assert drawn.count("ytick_") >= 2
        assert ">step</text>" in drawn
        assert ">b</text>" in drawn
        title = re.search(r"rotate\(-90 (-?[\d.]+)", drawn)
        assert title is not None
        assert float(title.group(1)) > 8  # beside the axis, not cut off


class Stub:
    """A stage without networks: what the loop does around it is what is tested."""

    name, masks, rates = "structure", (), ()

    def __init__(self, bits: float) -> None:
        self.bits, self.state = bits, {"model": torch.nn.Linear(1, 1)}

    def step(self, own: Share) -> list[dict[str, Any]]:
        return [{"bits": own.image.mean()}]

    def validate(self) -> dict[str, Any]:
        return {"bits_hole": self.bits, "bits_known": 0.1}

    def preview(self) -> Image.Image:
        return Image.new("RGB", (20, 10), (250, 100, 0))

    def export(self, folder: Path, step: int, figures: dict, last: bool) -> None:
        pass


def stub(out: Path, steps: int, bits: float, tensorboard: bool = False) -> None:
    """Train a stub on grey pictures up to `steps`, of 30."""
    pictures = out / "pictures"
    pictures.mkdir(exist_ok=True, parents=True)
    for k in range(4):
        Image.new("RGB", (16, 16), (40 * k, 90, 90)).save(pictures / f"{k}.png")
    model = to_dict(PRESETS["faces-128"].model)  # 512 codes
    settings = {"model": model, "training": {"steps": 30, "batch_size": 2}}
    (out / "structure").mkdir(exist_ok=True)
    (out / "structure" / "config.json").write_text(json.dumps(settings))
    batches = Batches(Pictures([pictures], 16, quiet=True), 2, 0, flip=False)
    options = RunOptions(log_every=5, validate_every=5, checkpoint_every=10, quiet=True, tensorboard=tensorboard)
    with batches:
        loop.run(Stub(bits), batches, out, steps, options)


def test_problems_are_said_once_while_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    stub(tmp_path, 25, bits=8.99)
    assert "warning" not in capsys.readouterr().err, "too early"
    settings = tmp_path / "structure" / "config.json"
    stub(tmp_path, 30, bits=8.99)
    said = capsys.readouterr().err
    assert said.count("manifill: warning: structure: The prior has learnt nothing: 8.99 bits") == 1
    assert settings.exists()
    stub(tmp_path / "sound", 30, bits=2.0)
    assert "warning" not in capsys.readouterr().err


def test_a_problem_that_stays_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    told: set[str] = set()
    stub(tmp_path, 30, bits=8.99)
    capsys.readouterr()
    for _ in range(3):
        loop._tell(tmp_path, "structure", told)
    assert capsys.readouterr().err.count("learnt nothing") == 1
    assert told == {"prior learnt nothing"}


def events(folder: Path) -> Any:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def test_tensorboard_has_what_the_log_has(tmp_path: Path) -> None:
    """Also after a run that was killed at step 19 and resumed from its checkpoint of step 10."""
    pytest.importorskip("tensorboard")
    folder = tmp_path / "structure"
    stub(tmp_path, 10, bits=2.0, tensorboard=True)
    shutil.copy(folder / "checkpoint.pt", tmp_path)
    stub(tmp_path, 19, bits=7.0, tensorboard=True)
    shutil.copy(tmp_path / "checkpoint.pt", folder)
    stub(tmp_path, 30, bits=2.0, tensorboard=True)
    found = events(folder / "tensorboard")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("train/bits", "bits"), ("val/bits_hole", "val_bits_hole"), ("val/bits_known", "val_bits_known")):
        logged = [(line["step"], pytest.approx(line[key], rel=1e-4)) for line in lines if key in line]
        assert [(event.step, event.value) for event in found.Scalars(tag)] == logged
        assert [step for step, _ in logged] == [5, 10, 15, 20, 25, 30]
    images = found.Images("preview")
    assert [event.step for event in images] == [5, 10, 15, 20, 25, 30]
    shown = Image.open(io.BytesIO(images[-1].encoded_image_string))
    assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(Stub(0).preview()))


def test_tensorboard_is_not_asked_for_unless_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    stub(tmp_path, 10, bits=2.0)
    assert not (tmp_path / "structure" / "tensorboard").exists()
    with pytest.raises(ValueError, match=r"needs TensorBoard: pip install 'manifill\[tensorboard\]'"):
        tensorboard.board(tmp_path, 0)
    before = (tmp_path / "structure" / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match="needs TensorBoard"):
        stub(tmp_path, 20, bits=2.0, tensorboard=True)
    assert (tmp_path / "structure" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_in_a_browser(chromium: Any, trained: Path, scheme: str, width: int) -> None:
    """Nothing is asked for from elsewhere, pictures show, nothing is wider than the screen, axe finds no fault."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install 'manifill[dev]'")
    asked: list[str] = []
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(write_report(trained).as_uri())
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true })")
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    curve = page.locator("svg #curve").first
    assert curve.bounding_box()["width"] > 50
    assert len({u for u in asked if not u.startswith("data:")}) == 1
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:100]) for v in found] == []
    context.close()
