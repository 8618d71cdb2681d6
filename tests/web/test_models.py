"""Several models behind one server: each request names one, and the answer says which filled what."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import parse, png
from starlette.testclient import TestClient

from manifill import inpainter
from manifill.inpainter import load_models
from manifill.networks.checkpoint import ModelError, pack
from manifill.networks.domain import Domain, Framing
from manifill.web.app import create_app
from manifill.web.limits import Limits
from manifill.web.security import Access

ROOT = Path(__file__).parent.parent
TINY = ROOT / "reference" / "model"
FRAMING = Framing((0.332, 0.339), (0.67, 0.338), (0.499, 0.708))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("models")
    names = [str(root / name) for name in ("faces", "scenes")]
    for name, domain in zip(names, (Domain("faces", FRAMING), Domain("scenes")), strict=True):
        pack(TINY, Path(name), False, {}, domain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "FACES", names[0])
        patch.setattr(inpainter, "SCENES", names[1])
        models = load_models(["auto", *names], "cpu")
        with TestClient(create_app(models, Limits(), Access()), base_url="http://127.0.0.1") as client:
            yield client


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A face at the left, nothing at the right."""
    found = np.full((192, 384, 3), 120, np.uint8)
    found[:, :192] = np.asarray(
        Image.open(ROOT.parent / "examples" / "astronaut.png").convert("RGB").resize((192, 192))
    )
    return found


def hole(*columns: int) -> np.ndarray:
    """Holes of 40 pixels: 75 is where the mouth is."""
    found = np.zeros((192, 384), np.uint8)
    for x in columns:
        found[110:150, x : x + 40] = 255
    return found


def post(client: TestClient, path: str, photo: np.ndarray, mask: np.ndarray, **fields: Any) -> Any:
    return client.post(f"/api/v1/{path}", files={"photo": png(photo), "mask": png(mask)}, data=fields)


def test_the_server_names_its_models(client: TestClient) -> None:
    told = client.get("/api/v1/model").json()
    assert told["name"] == "auto"
    assert [m["name"] for m in told["models"]] == ["auto", "faces", "scenes"]
    assert [m["knows"] for m in told["models"]] == ["scenes and faces", "faces", "scenes"]
    assert told["models"][0]["parameters"] == sum(m["parameters"] for m in told["models"][1:])


FACE, NO_FACE = {"model": "faces", "why": "a face was found"}, {"model": "scenes", "why": None}


@pytest.mark.parametrize(
    ("columns", "fields", "filled"),
    [
        ((75,), {}, [FACE]),
        ((300,), {}, [NO_FACE]),
        ((75, 300), {}, [FACE, NO_FACE]),
        ((75,), {"model": "scenes"}, [NO_FACE]),
    ],
)
def test_an_answer_says_what_filled_the_hole(
    columns: tuple[int, ...],
    fields: dict[str, str],
    filled: list[dict[str, str]],
    client: TestClient,
    photo: np.ndarray,
) -> None:
    mask = hole(*columns)
    one = post(client, "inpaint", photo, mask, seed=0, **fields)
    assert json.loads(one.headers["x-models"]) == filled
    found = np.asarray(Image.open(io.BytesIO(one.content)))
    assert np.array_equal(found[mask == 0], photo[mask == 0])


def test_several_completions_say_it_too(client: TestClient, photo: np.ndarray) -> None:
    two = post(client, "inpaint", photo, hole(75), num_samples=2).json()
    assert (two["models"], len(two["completions"])) == ([FACE], 2)


def test_what_goes_on_from_a_completion_keeps_its_model(client: TestClient, photo: np.ndarray) -> None:
    mask = hole(75)
    job = post(client, "jobs", photo, mask, seed=0, model="scenes").json()
    part = base64.b64encode(png(mask)).decode()
    for path, fields in (("near", {"amount": 0.5}), ("redraw", {"part": part})):
        list(events(client, job))
        again = client.post(f"/api/v1/jobs/{job['id']}/{path}", json={"index": 0, **fields})
        assert again.status_code == 202, again.text
        assert [d["models"] for kind, d in events(client, again.json()) if kind == "completion"] == [[NO_FACE]]


def events(client: TestClient, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return parse(client.get(job["events"]).text)


def test_a_model_that_is_not_there_is_named(client: TestClient, photo: np.ndarray) -> None:
    refused = post(client, "jobs", photo, hole(75), model="cats")
    assert refused.status_code == 422
    assert refused.json()["error"] == "model is 'cats'; this server has auto, faces, scenes"


@pytest.mark.parametrize("names", [[], [str(TINY), str(TINY)]])
def test_models_have_names_of_their_own(names: list[str]) -> None:
    with pytest.raises(ModelError, match="expected one or more, each with a name of its own"):
        load_models(names, "cpu")
