"""Completions read back from files, to go on from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from manifill.config import Fit
from manifill.files.results import file_of
from manifill.photos.decode import ImageError
from manifill.photos.photo import load_photo

if TYPE_CHECKING:
    from manifill.completion import Completion
    from manifill.inpainter import Completions


def read_completion(completions: Completions, path: Path) -> Completion:
    """Return a completion of the same photo and hole that was saved, from its file and its line in the manifest.

    Raises ImageError when it is of another photo, hole, size or model, or was saved with loss.
    """
    from manifill.completion import Completion
    from manifill.photos.view import Patch

    line = find_line(path)
    model, request = completions.inpainter, completions.request
    if not model.is_named(line["model"].rpartition(" ")[2]):
        raise ImageError(f"{path}: made by the model {line['model']}; expected {model.name} {model.weights}")
    saved, photo = load_photo(path), request.photo
    if saved.samples.shape != photo.samples.shape or saved.samples.dtype != photo.samples.dtype:
        raise ImageError(
            f"{path}: pixels {saved.samples.shape} of {saved.mode}; the photo has {photo.samples.shape} of {photo.mode}"
        )
    if (saved.samples != photo.samples)[~request.hole].any():
        raise ImageError(
            f"{path}: differs from {photo.name} outside the hole (another photo or mask, or saved with loss)"
        )
    codes, side, kinds = line["codes"], model.image_size // 8, model.structure.config.codebook_size
    if codes.shape != (len(completions.crops), side, side) or codes.min() < 0 or codes.max() >= kinds:
        raise ImageError(
            f"{path}: has codes {codes.shape}; expected {(len(completions.crops), side, side)}, 0 to "
            f"{kinds - 1} (another mask?)"
        )
    h, w = request.hole.shape
    patch = Patch(slice(0, h), slice(0, w), request.hole, saved.rgb, saved.samples)
    picture = Image.fromarray(saved.rgb)
    return Completion(
        request, 0, line["seed"], codes, [patch], picture, picture, line["log_likelihood"], line.get("coherence")
    )


def saved_options(line: dict[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved completion's options, as a call of an Inpainter takes them; those of `sampling` where given."""
    options = {name: line.get(name) if value is None else value for name, value in sampling.items()}
    return {"fit": saved_fit(line), "known_codes": line["known_codes"], **options}


def saved_fit(line: dict[str, Any]) -> Fit:
    """Return how a saved completion's hole was fitted; before thin parts were told, the model filled them."""
    return Fit(**{"thin": False, **line["fit"]})


def find_line(path: Path) -> dict[str, Any]:
    """Return the manifest's line of a saved completion, from its folder or one above. Raises ImageError."""
    for folder in path.resolve().parents:
        for manifest in sorted(folder.glob("manifest*.jsonl")):
            name = path.resolve().relative_to(folder).as_posix()
            for text in manifest.read_text(errors="replace").splitlines(True):
                if file_of(text) == name:
                    return _checked(json.loads(text), manifest)
    raise ImageError(f"{path}: no manifest.jsonl beside it or above says how it was made")


def _checked(line: dict[str, Any], manifest: Path) -> dict[str, Any]:
    """Return a line that says all that is needed to go on. Raises ImageError."""
    kinds = {"model": str, "seed": int, "codes": list, "fit": dict, "known_codes": str, "log_likelihood": float}
    for name, kind in kinds.items():
        if not isinstance(line.get(name), kind):
            raise ImageError(f"{manifest}: says {name} {line.get(name)!r} of {line['file']}; expected {kind.__name__}")
    try:
        saved_fit(line)
        return line | {"codes": np.array(line["codes"], np.int64)}
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"{manifest}: cannot be understood about {line['file']} ({error})") from error
