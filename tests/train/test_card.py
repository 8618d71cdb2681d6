"""Model cards: written from the run, kept where a person wrote, true after packing."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from manifill import ModelError
from manifill.hub import CARD, PLACE, licence, licensed, published
from manifill.inpainter import find_model
from manifill.networks.checkpoint import model_hash, pack
from manifill.train.card import command, write_card
from manifill.train.config import RunOptions
from manifill.train.run import train


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of few steps, its structure generator with settings of its own."""
    out = tmp_path_factory.mktemp("run")
    options = RunOptions(quiet=True, force=True, steps=2, validate_every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a model of two steps cannot do
        train(("vqvae", "structure", "texture"), [pictures], out, "tiny", options)
    return out


def test_the_card_of_a_run_is_for_the_hub_and_tells_how_it_was_made(run: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra [hub]")
    text = (run / "model" / CARD).read_text()
    card = hub.ModelCard(text)
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "unknown",
        "manifill",
        "image-to-image",
    )
    settings = json.loads((run / "structure" / "config.json").read_text())
    assert f"Weights {model_hash(run / 'model')}." in text
    assert f"23 pictures (listing {settings['listing_digest']}" in text
    for stage in ("vqvae", "structure", "texture"):
        said = f"--steps 2 --precision {settings['precision']}"
        assert f"    manifill train {stage} --data pictures0 --out RUN --preset tiny {said}\n" in text
    assert "psnr_structure" in text
    assert str(run) not in text


def test_commands_name_all_that_was_not_the_presets(run: Path) -> None:
    used = json.loads((run / "texture" / "config.json").read_text())
    assert command("texture", used, "tiny") == (["--steps", "2", "--precision", used["precision"]], [])
    changes = {"init_from": "0123456789abcdef", "perceptual": "my net.ts", "seed": 3, "precision": "fp16"}
    training = used["training"] | {"learning_rate": 0.5, "perturb": 0.3, "flip": True}
    options, rest = command("texture", used | changes | {"training": training}, "tiny")
    said = "--steps 2 --learning-rate 0.5 --flip --perturb 0.3 --seed 3 --precision fp16"
    assert " ".join(options) == said + " --init-from WEIGHTS-0123456789abcdef --perceptual 'my net.ts'"
    assert rest == []
    assert command("texture", used, "tiny+attention-none")[1] == ["model.texture.attention full (the preset: none)"]


def test_a_card_that_is_written_again_keeps_what_is_written_by_hand(run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(run, tmp_path / "run"))
    path = out / "model" / CARD
    own = "license: other\nlicense_name: Ours & Theirs\nlicense_link: LICENCE"
    path.write_text(path.read_text().replace("license: unknown", own).replace("To be filled in:", "Hats;"))
    write_card(out, "tiny", ["elsewhere"], ["more"])
    text = path.read_text()
    assert text.startswith(f"---\n{own}\nlibrary_name")
    assert "Hats;" in text
    assert "--data elsewhere --val more --out RUN" in text
    assert "To be filled" not in text


def test_a_packed_card_names_the_packed_weights(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    pack(run / "model", out, half=True, sampling={"temperature": 0.8, "top_k": None})
    old, new = model_hash(run / "model"), model_hash(out)
    text = (out / CARD).read_text()
    assert f"Weights {new}: packed, all but the VQ-VAE in 16 bits, temperature 0.8, from {old}" in text
    with pytest.raises(ModelError, match="names no licence"):
        published(out, "me/packed", None)
    sent = published(out, "me/packed", "other")
    assert 'from_pretrained("me/packed")' in sent
    assert PLACE not in sent
    assert licence(sent) == "other"
    (out / CARD).write_text(text.replace("license: unknown", "license: mit"))
    assert licence(published(out, "me/packed", None)) == "mit"


def test_the_bundled_card_may_be_published_with_a_licence() -> None:
    card = published(find_model("faces-128"), "me/faces", "other")
    assert licence(card) == "other"
    assert "non-commercial research only" in card


def test_licences_in_cards() -> None:
    assert licence("# no head\nlicense: mit\n") is None
    assert licence("---\ntags: [a]\n---\nlicense: mit\n") is None
    assert licence('---\nlicense: "mit"\n---\n') == "mit"
    assert licensed("# A model\n", "mit") == "---\nlicense: mit\n---\n\n# A model\n"
    assert licensed("---\n\n---\n# A\n", "mit") == "---\nlicense: mit\n\n---\n# A\n"
    assert licensed("---\ntags: [a]\n---\n# A\n", "mit") == "---\nlicense: mit\ntags: [a]\n---\n# A\n"
