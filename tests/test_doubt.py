"""One warning for a photo that is unlike what a model knows, and none for its own kind."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifill import Doubt, Fit, Inpainter
from manifill.evaluate.domain import measure_domain
from manifill.hub import find_model
from manifill.networks.checkpoint import model_hash, pack, read_header
from manifill.networks.domain import Domain

ROOT = Path(__file__).parent
TINY = ROOT / "reference" / "model"


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


FACE = opened(ROOT.parent / "examples" / "astronaut.png")
CAT = opened(ROOT / "pictures" / "cat.jpg")[:300, 60:360]


def middle(photo: np.ndarray) -> np.ndarray:
    h, w = photo.shape[:2]
    hole = np.zeros((h, w), np.bool_)
    hole[h // 4 : -h // 4, w // 4 : -w // 4] = True
    return hole


def doubts(model: Inpainter, photo: np.ndarray, fit: Fit | None = None) -> list[str]:
    """Return the doubts that are raised, which the completions' notes say, too."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        asked = model(photo, middle(photo), num_samples=1, seed=0, fit=fit)
    found = [str(w.message) for w in raised if w.category is Doubt]
    assert [note for note in asked.notes if "expect little" in note] == found
    return found


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        (Domain("streets", None, 99.0, None), True),
        (Domain("streets", None, 0.0, 0.0), True),
        (Domain("streets", None, 0.0, 99.0), False),
        (Domain("streets"), False),
    ],
)
def test_either_threshold_raises_one_doubt(domain: Domain, told: bool, tmp_path: Path) -> None:
    pack(TINY, tmp_path / "model", False, {}, domain)
    found = doubts(Inpainter.from_pretrained(tmp_path / "model", "cpu"), CAT)
    assert len(found) == told
    assert not told or "model knows streets, and this photo is unlike them: expect little" in found[0]


def test_what_is_painted_over_is_not_asked_for_bits(tmp_path: Path) -> None:
    pack(TINY, tmp_path / "model", False, {}, Domain("streets", None, 0.0, 0.0))
    photo = CAT.copy()
    photo[middle(photo)] = 255
    assert doubts(Inpainter.from_pretrained(tmp_path / "model", "cpu"), photo) == []


def test_a_model_of_places_says_that_it_is_given_a_face(tmp_path: Path) -> None:
    pack(TINY, tmp_path / "model", False, {}, Domain("streets"))
    model = Inpainter.from_pretrained(tmp_path / "model", "cpu")
    (found,) = doubts(model, FACE)
    assert "the hole meets a face, and model knows streets: expect little" in found
    assert doubts(model, CAT) == []


def test_the_bundled_models_know_faces_from_cats() -> None:
    faces = Inpainter.from_pretrained("faces-128", "cpu")
    assert doubts(faces, FACE) == []
    for fit, words in ((Fit(), "no face is near the hole"), (Fit(strategy="resize"), "faces-128 knows faces")):
        (found,) = doubts(faces, CAT, fit)
        assert words in found
    assert doubts(Inpainter.from_pretrained("auto", "cpu"), FACE) == []


@pytest.mark.parametrize(("name", "weights"), [("faces-128", "91a7a6f0048d32c9"), ("scenes-128", "240b01ca82f74201")])
def test_what_a_header_says_of_pictures_is_no_part_of_the_weights_name(name: str, weights: str) -> None:
    folder = find_model(name)
    assert model_hash(folder) == weights
    domain = read_header(folder, "vqvae").domain
    assert domain is not None
    assert domain.subject == name.removesuffix("-128")


def test_a_domain_is_measured_on_pictures(tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(CAT[20 * k : 20 * k + 160, :160]).save(tmp_path / f"{k}.png")
    found = measure_domain(Inpainter.from_pretrained(TINY, "cpu"), tmp_path, "cats")
    assert (found.subject, found.framing) == ("cats", None)
    assert found.least_psnr is not None
    assert found.most_bits is not None
    assert 3 < found.least_psnr < 60
    assert 0 < found.most_bits < 20
