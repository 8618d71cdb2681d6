"""What the package computes, as hashes: a refactor leaves all of them as they are.

    python scripts/golden.py            # compare with tests/golden.json
    python scripts/golden.py --record   # write it anew, after a change that is meant to change results
    python scripts/golden.py --record-api   # only the API's description, after a change of the API

Two kinds of numbers. `everywhere`: codes, the first losses, the keys of a manifest, the API's description; they hold
on any machine, and the tests check them. `here`: float32 pixels, all losses, trained weights and the bundled model;
their last digits depend on the processor, so they are compared where they were recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from manifill import cli
from manifill.config import Fit
from manifill.inpainter import Inpainter
from manifill.networks.checkpoint import fingerprint, save_network
from manifill.networks.discriminator import Discriminator
from manifill.networks.structure import StructureGenerator
from manifill.networks.texture import TextureGenerator
from manifill.networks.vqvae import VQVAE
from manifill.train.presets import PRESETS

ROOT = Path(__file__).parent.parent
FILE = ROOT / "tests" / "golden.json"
REFERENCE = ROOT / "tests" / "reference" / "model"
SEEDS, FIRST = 8, 5  # completions of a photo; steps whose losses agree on all machines
STAGES = ("vqvae", "structure", "texture")
Golden = dict[str, Any]


def sha(*arrays: np.ndarray) -> str:
    """Return a short hash of the arrays' bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def photos() -> dict[str, np.ndarray]:
    """Return a square face, and a wide photo whose holes need several squares: uint8 (H, W, 3)."""
    face = Image.open(ROOT / "examples" / "astronaut.png").convert("RGB")
    wide = np.asarray(face.resize((300, 300)))
    return {"face": np.asarray(face), "wide": np.concatenate([wide, wide[:, ::-1], wide[::-1]], 1)}


def holes(height: int, width: int) -> dict[str, np.ndarray]:
    """Return three holes, bool (H, W): one in the middle, strokes, and two places far apart."""
    y, x = height // 4, width // 4
    shapes: dict[str, list[tuple[int, int, int, int]]] = {
        "centre": [(x, y, width - x - 1, height - y - 1)],
        "strokes": [],
        "apart": [(x // 2, y, x, 2 * y), (3 * x, 2 * y, 3 * x + x // 2, 3 * y)],
    }
    found = {}
    for name, boxes in shapes.items():
        picture = Image.new("L", (width, height))
        draw = ImageDraw.Draw(picture)
        for box in boxes:
            draw.rectangle(box, fill=1)
        if name == "strokes":
            draw.line([(x, y), (2 * x, 3 * y), (3 * x, y)], fill=1, width=height // 10)
        found[name] = np.asarray(picture) > 0
    return found


def seeded_model(folder: Path) -> Path:
    """Write a model of the preset `tiny` with random weights from a seed."""
    torch.manual_seed(0)
    sizes = PRESETS["tiny"].model
    vqvae = VQVAE(sizes.vqvae)
    networks = {
        "vqvae": vqvae,
        "structure": StructureGenerator(sizes.structure),
        "texture": TextureGenerator(sizes.texture),
        "discriminator": Discriminator(sizes.discriminator),
    }
    for name, network in networks.items():
        save_network(folder, name, network, sizes.image_size, codebook=fingerprint(vqvae))
    return folder


def completions(folder: Path | str) -> tuple[Golden, Golden]:
    """Complete both photos with all holes; return hashes of codes and, by the same names, of results."""
    model, codes, pixels = Inpainter.from_pretrained(folder, "cpu", torch.float32), {}, {}
    for photo_name, photo in photos().items():
        for hole_name, hole in holes(*photo.shape[:2]).items():
            name = f"{photo_name}, {hole_name}"
            found = list(model(photo, hole, num_samples=SEEDS, seed=0, temperature=1.0, top_k=0, top_p=1.0))
            codes[name] = sha(*(c.codes.astype("<i8") for c in found))
            pixels[name] = sha(*(c.samples for c in found))
    photo, hole = photos()["face"], holes(128, 128)["centre"]
    own = list(model(photo, hole, num_samples=2, seed=3, fit=Fit(strategy="original")))
    part = np.zeros_like(hole)
    part[40:64, 40:64] = True
    variants = {
        "model's options, tiles": own,
        "cells, top-k, top-p": list(model(photo, hole, num_samples=2, seed=3, top_k=5, top_p=0.8, known_codes="cells")),
        "near": list(model.near(own[0], 0.3, num_samples=2, seed=5)),
        "redraw": list(model.redraw(own[0], part, num_samples=2, seed=5)),
        "chosen": list(model(photo, hole, num_samples=2, seed=3, of=4)),
    }
    for name, found in variants.items():
        codes[name] = sha(*(c.codes.astype("<i8") for c in found))
        pixels[name] = sha(*(c.samples for c in found))
    return codes, pixels


def manifill(*arguments: object) -> None:
    """Run the command line on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with redirect_stdout(io.StringIO()):
            assert cli.main([str(argument) for argument in arguments]) == 0
    finally:
        torch.set_num_threads(threads)


def training_pictures(folder: Path) -> Path:
    """Write 24 crops of the face."""
    folder.mkdir(parents=True)
    face = photos()["face"]
    for k in range(24):
        crop = np.rot90(face[2 * k : 2 * k + 80, k : k + 80], k % 4)
        Image.fromarray(np.ascontiguousarray(crop)).save(folder / f"{k:02d}.png")
    return folder


def training(out: Path, *more: object) -> tuple[Golden, Golden]:
    """Train `tiny`; return its losses, step by step, and hashes of the weights that all stages leave."""
    data = training_pictures(out / "pictures")
    steps = ("--log-every", 1, "--validate-every", 20, "--checkpoint-every", 20, "--precision", "fp32")
    manifill(
        "train", "all", "--preset", "tiny", "--data", data, "--out", out / "run", "--force", "--quiet", *steps, *more
    )
    losses, weights = {}, {}
    for stage in STAGES:
        lines = [json.loads(line) for line in (out / "run" / stage / "metrics.jsonl").read_text().splitlines()]
        kept = ({k: v for k, v in line.items() if k not in ("step", "pictures_per_s")} for line in lines)
        losses[stage] = [line for line in kept if not any(key.startswith("val_") for key in line)][:20]
    for file in sorted((out / "run" / "model").glob("*.safetensors")):
        weights[file.stem] = sha(*(tensor.numpy() for _, tensor in sorted(load_file(file).items())))
    return losses, weights


def manifest_keys(model: Path, out: Path) -> list[str]:
    """Return the keys of a manifest's line."""
    examples = ROOT / "examples"
    photo, mask = examples / "astronaut.png", examples / "centre.png"
    manifill("inpaint", photo, mask, "-n", 1, "--seed", 0, "--model", model, "-o", out)
    return sorted(json.loads((out / "manifest.jsonl").read_text().splitlines()[0]))


def openapi() -> Golden:
    """Return the description of the HTTP API."""
    from manifill.web.app import create_app
    from manifill.web.limits import Limits
    from manifill.web.security import Access

    app: Any = create_app([Inpainter.from_pretrained(REFERENCE, "cpu")], Limits(), Access())
    return app.app.openapi()


def measure(everything: bool = True) -> Golden:
    """Return all numbers, or those that hold on any machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = seeded_model(folder / "tiny")
        codes, pixels = {}, {}
        for label, model in (("seeded tiny", tiny), ("tests/reference", REFERENCE)):
            codes[label], pixels[label] = completions(model)
        everywhere = {
            "codes": codes,
            "first losses": training(folder / "short", "--steps", FIRST)[0],
            "manifest": manifest_keys(tiny, folder / "out"),
            "openapi": openapi(),
        }
        if not everything:
            return {"everywhere": everywhere}
        losses, weights = training(folder / "whole")
    bundled = dict(zip(("codes", "pixels"), completions("faces-128"), strict=True))
    here = {"machine": machine(), "pixels": pixels, "losses": losses, "weights": weights, "faces-128": bundled}
    return {"everywhere": everywhere, "here": here}


def machine() -> str:
    """Say what the last digits depend on."""
    from manifill.sampling.native import kinds

    return f"{platform.machine()}, {' '.join(kinds())}, torch {torch.__version__}"


def differences(wanted: Any, found: Any, tolerance: float = 0.0, name: str = "") -> list[str]:
    """Return in words where two nested structures differ; numbers may by `tolerance`, relative to the larger."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = wanted.keys() | found.keys()
        parts = (differences(wanted.get(k), found.get(k), tolerance, f"{name}/{k}") for k in sorted(keys))
        return [words for part in parts for words in part]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [words for k, (a, b) in pairs for words in differences(a, b, tolerance, f"{name}/{k}")]
    numbers = isinstance(wanted, float | int) and isinstance(found, float | int)
    if wanted == found or (numbers and abs(wanted - found) <= tolerance * max(abs(wanted), abs(found), 1.0)):
        return []
    return [f"{name}: {str(wanted)[:80]} recorded, {str(found)[:80]} now"]


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write tests/golden.json anew")
    parser.add_argument("--record-api", action="store_true", help="write the API's description in it anew, a second")
    asked = parser.parse_args()
    if asked.record_api:
        recorded = json.loads(FILE.read_text())
        recorded["everywhere"]["openapi"] = openapi()
        FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return 0
    found = json.loads(json.dumps(measure()))
    if asked.record:
        FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        print(f"{FILE} written")
        return 0
    wanted = json.loads(FILE.read_text())
    if wanted["here"]["machine"] != found["here"]["machine"]:
        print(f"recorded on another machine ({wanted['here']['machine']}): pixels and weights are not compared")
        wanted, found = ({"everywhere": x["everywhere"]} for x in (wanted, found))
        tolerance = 1e-4
    else:
        tolerance = 0.0
    changed = differences(wanted, found, tolerance)
    print("\n".join(changed) or "nothing has changed")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
