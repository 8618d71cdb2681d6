"""What a model says of the pictures it was trained on: in the header of its VQ-VAE, and absent in older models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from manifill.config import to_dict
from manifill.networks.checkpoint import ModelError, pack, read_header
from manifill.networks.domain import Domain, Framing, domain_from_dict

TINY = Path(__file__).parent.parent / "reference" / "model"
FRAMING = Framing((0.332, 0.339), (0.67, 0.338), (0.499, 0.708))


def test_a_model_saved_before_has_none() -> None:
    assert read_header(TINY, "vqvae").domain is None


def test_pack_stores_it_and_keeps_it(tmp_path: Path) -> None:
    domain = Domain("faces", FRAMING, 25.5, 5.0)
    pack(TINY, tmp_path / "a", False, {}, domain)
    pack(tmp_path / "a", tmp_path / "b", False, {"temperature": 0.9})
    assert read_header(tmp_path / "b", "vqvae").domain == domain
    assert read_header(tmp_path / "b", "texture").domain is None


def test_plain_values_and_back() -> None:
    for domain in (Domain("scenes"), Domain("faces", FRAMING, 25.0, None)):
        assert domain_from_dict(json.loads(json.dumps(to_dict(domain)))) == domain


@pytest.mark.parametrize(
    "values",
    [
        "[1]",
        "{}",
        '{"subject": "faces", "more": 1}',
        '{"subject": "faces", "framing": {"mouth": [0.5, 0.7]}}',
        '{"subject": "faces", "framing": {"right_eye": [0.9, 0.3], "left_eye": [0.1, 0.3], "mouth": [0.5, 0.7]}}',
        "{",
    ],
)
def test_a_domain_that_is_none_is_refused_by_the_files_name(values: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    path = folder / "vqvae.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, header | {"domain": values})
    with pytest.raises(ModelError, match=r"vqvae\.safetensors: a domain that cannot be read"):
        read_header(folder, "vqvae")
