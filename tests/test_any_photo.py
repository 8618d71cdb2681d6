"""A photo as it comes: faces framed as in training, thin parts filled without a model, a model that suits each hole."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from manifill import Inpainter, inpainter
from manifill.config import Fit
from manifill.files.results import Output, describe
from manifill.networks.checkpoint import pack
from manifill.networks.domain import Domain, Framing

ROOT = Path(__file__).parent
TINY = ROOT / "reference" / "model"
FRAMING = Framing((0.332, 0.339), (0.67, 0.338), (0.499, 0.708))
FACE = Image.open(ROOT.parent / "examples" / "astronaut.png").convert("RGB")
FACE_HOLE, OTHER_HOLE = (330, 160, 20), (80, 200, 25)  # middle and radius: over the mouth, and over the background


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(90, 160, (10, 16, 3), np.uint8), (480, 300), interpolation=cv2.INTER_CUBIC)
    smooth[40:232, 230:422] = np.asarray(FACE.resize((192, 192)))
    return smooth


def discs(*places: tuple[int, int, int]) -> np.ndarray:
    ys, xs = np.indices((300, 480))
    return np.any([(xs - x) ** 2 + (ys - y) ** 2 <= r * r for x, y, r in places], 0)


LINE = np.zeros((300, 480), bool)
LINE[20:23, 10:470] = True


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of other weights than one another: stand-ins for those that know faces and scenes."""
    root = tmp_path_factory.mktemp("models")
    pack(TINY, root / "faces", False, {"temperature": 0.5}, Domain("faces", FRAMING))
    pack(TINY, root / "scenes", False, {"temperature": 0.9}, Domain("scenes"))
    return root / "faces", root / "scenes"


@pytest.fixture
def auto(models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Inpainter:
    monkeypatch.setattr(inpainter, "FACES", str(models[0]))
    monkeypatch.setattr(inpainter, "SCENES", str(models[1]))
    return Inpainter.from_pretrained("auto", "cpu")


def test_a_model_that_knows_faces_frames_them(models: tuple[Path, Path], photo: np.ndarray) -> None:
    hole = discs(FACE_HOLE, OTHER_HOLE)
    asked = Inpainter.from_pretrained(models[0], "cpu")(photo, hole, num_samples=2, seed=0)
    face, other = asked.crops
    assert (face.face, other.face) == (True, False)
    assert abs(face.side - 192) < 20
    assert np.array_equal(sum_of_owned(asked.crops), hole)
    for completion in asked:
        assert np.array_equal(completion.rgb[~hole], photo[~hole])
        assert (completion.rgb[hole] != photo[hole]).any()


def sum_of_owned(crops: object) -> np.ndarray:
    total = np.zeros((300, 480), int)
    for crop in crops:  # type: ignore[attr-defined]
        total[crop.rows, crop.columns] += crop.own
    assert total.max() <= 1
    return total > 0


def test_without_a_face_it_says_so(models: tuple[Path, Path], photo: np.ndarray) -> None:
    model = Inpainter.from_pretrained(models[0], "cpu")
    with pytest.warns(UserWarning, match="no face is near the hole"):
        asked = model(photo[:, :200], discs(OTHER_HOLE)[:, :200], num_samples=1)
    assert not asked.crops[0].face


@pytest.mark.parametrize(
    ("hole", "face_loaded", "scenes_loaded", "filled"),
    [
        (discs(FACE_HOLE), True, False, ["faces"]),
        (discs(OTHER_HOLE), False, True, ["scenes"]),
        (discs(FACE_HOLE, OTHER_HOLE) | LINE, True, True, ["diffusion", "faces", "scenes"]),
    ],
)
def test_auto_takes_the_model_that_suits_each_hole(
    hole: np.ndarray, face_loaded: bool, scenes_loaded: bool, filled: list[str], auto: Inpainter, photo: np.ndarray
) -> None:
    asked = auto(photo, hole, num_samples=2, seed=3)
    assert ("faces" in vars(auto), "scenes" in vars(auto)) == (face_loaded, scenes_loaded)
    completions = list(asked)
    line = describe(asked, completions[0], "mask")
    assert sorted(line["filled_by"]) == filled
    assert sum(line["filled_by"].values()) == hole.sum()
    json.dumps(line)
    for completion in completions:
        assert np.array_equal(completion.rgb[~hole], photo[~hole])
    if len(filled) == 1:
        alone = auto.faces if face_loaded else auto.scenes  # type: ignore[attr-defined]
        assert asked.options.temperature == {"faces": 0.5, "scenes": 0.9}[filled[0]]
        (same, _) = alone(photo, hole, num_samples=2, seed=3) if face_loaded else completions
        assert np.array_equal(same.rgb, completions[0].rgb)


def test_auto_goes_on_from_a_completion_of_both(auto: Inpainter, photo: np.ndarray, tmp_path: Path) -> None:
    hole = discs(FACE_HOLE, OTHER_HOLE) | LINE
    asked = auto(photo, hole, num_samples=3, of=4, seed=0)
    assert [asked.request.options_of(c).temperature for c in asked.crops] == [0.5, 0.9]
    first, *_ = asked
    (near,) = auto.near(first, 0.0, num_samples=1, seed=9)
    assert np.array_equal(near.rgb, first.rgb)
    part = discs(OTHER_HOLE)
    (again,) = auto.redraw(first, part, num_samples=1, seed=9)
    assert np.array_equal(again.rgb[~part], first.rgb[~part])
    Output(tmp_path).write(asked, "photo", "mask", "png", lambda path: None)
    assert len(list(tmp_path.glob("photo_*.png"))) == 4


def test_an_auto_can_be_copied_and_sent(auto: Inpainter) -> None:
    assert pickle.loads(pickle.dumps(auto)).name == copy.deepcopy(auto).name == "auto"


def test_a_thin_hole_needs_no_model(models: tuple[Path, Path], photo: np.ndarray) -> None:
    model = Inpainter.from_pretrained(models[1], "cpu")
    asked = model(photo, LINE, num_samples=2, seed=0)
    assert len(asked.crops) == 0
    one, two = asked
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.rgb[~LINE], photo[~LINE])
    assert np.abs(one.rgb[LINE].astype(int) - photo[LINE]).mean() < 5
    assert len(list(model(photo, LINE, num_samples=1, of=3, seed=0))) == 1
    assert len(model(photo, LINE, num_samples=1, fit=Fit(thin=False)).crops) > 0


def test_what_is_thin_is_known_to_the_model(models: tuple[Path, Path], photo: np.ndarray) -> None:
    line = LINE.copy()
    line[200:203, :] = True
    hole = discs(OTHER_HOLE) | line
    model = Inpainter.from_pretrained(models[1], "cpu")
    painted = photo.copy()
    painted[line] = 255
    for given in (photo, painted):
        (completion,) = model(given, hole, num_samples=1, seed=0)
        if given is photo:
            expected = completion.rgb
    assert np.array_equal(completion.rgb[hole], expected[hole])
