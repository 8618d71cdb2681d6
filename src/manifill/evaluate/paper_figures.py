"""The paper's figures by one command: what a model makes of pictures, beside others' results and a run's ablations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from manifill.config import Fit, Sampling
from manifill.data.pictures import Pictures
from manifill.evaluate import protocols
from manifill.evaluate.methods import Folder, Method, ModelMethod, Picking
from manifill.inpainter import Inpainter
from manifill.networks.atomic import write_atomic
from manifill.photos.tensors import grid, to_tensor, to_uint8
from manifill.train.presets import ABLATIONS

PAPER = "attention-full-structural"  # with both feature losses: the paper's model, in both tables
LINE, LETTER = 14, 6  # pixels of a line and of a letter of a title
AS_PAPER = Fit(strategy="resize", seamless=False, thin=False)


def write_figures(
    models: Sequence[Inpainter],
    pictures: Pictures,
    out: Path,
    protocol: str = "paper-centre",
    samples: int = 5,
    seed: int = 0,
    options: Sampling | None = None,
    folders: Sequence[Path] = (),
    run: Path | None = None,
) -> list[Path]:
    """Write the figures of the first model into `out` and return their files.

    figure1.png: a masked picture and its photo, sampled structures above what is painted with them. figure2.png:
    photo, structure alone, texture alone, reconstruction, codes of both. figure3.png, as the paper's 3 and 4: all
    models and `folders` of others' results on the same pictures. figure5.png and figure6.png, of a `run` of
    `manifill ablate`: its attentions and its losses, painting the same structures.
    """
    holes = [protocols.mask(protocol, k, pictures.size) for k in range(len(pictures))]
    given, picking = options or {}, Picking(samples)
    methods: list[Method] = [ModelMethod(m, picking, m.options(**given), seed=seed, fit=AS_PAPER) for m in models]
    others = [Folder(folder) for folder in folders]
    for folder in others:
        folder.check(pictures.names)
    methods += others
    sheets = {
        "figure1": structures_and_outputs(models[0], pictures, holes, samples, seed, given),
        "figure2": levels(models[0], pictures),
        "figure3": side_by_side(methods, pictures, holes),
    }
    if run:
        for figure, table in (("figure5", 2), ("figure6", 3)):
            sheets[figure] = side_by_side(list(ablations(run, table, seed, given)), pictures, holes)
    out.mkdir(parents=True, exist_ok=True)
    for name, sheet in sheets.items():
        write_atomic(out / f"{name}.png", lambda f, sheet=sheet: sheet.save(f, "PNG"))
    return [out / f"{name}.png" for name in sheets]


def ablations(run: Path, table: int, seed: int, options: Sampling) -> Iterator[Method]:
    """Yield the variants of a table that were trained, the paper's model last, with one sample each.

    All have one structure generator, so that all paint the same structures. Raises ModelError where there are none.
    """
    names = [v for v, a in ABLATIONS.items() if a.table == table and v != PAPER]
    for name in (*(v for v in names if (run / v / "model").is_dir()), PAPER):
        model = Inpainter.from_pretrained(run / name / "model")
        method = ModelMethod(model, Picking(1), model.options(**options), seed=seed, fit=AS_PAPER)
        method.name = name
        yield method


def structures_and_outputs(
    model: Inpainter, pictures: Pictures, holes: Sequence[np.ndarray], samples: int, seed: int, options: Sampling
) -> Image.Image:
    """Return figure 1: two rows a picture, masked and photo first."""
    rows = []
    for photo, hole in zip(pictures.array, holes, strict=True):
        found = list(model(photo, hole, num_samples=samples, seed=seed, fit=AS_PAPER, **options))
        rows.append([masked(photo, hole), *(np.asarray(c.structure) for c in found)])
        rows.append([photo, *(c.rgb for c in found)])
    return grid([np.stack(column) for column in zip(*rows, strict=True)])


@torch.no_grad()
def levels(model: Inpainter, pictures: Pictures) -> Image.Image:
    """Return figure 2: a row a picture."""
    image = to_tensor(pictures.array).to(model.device)
    vqvae, encoder = model.vqvae, model.vqvae.encoder
    e = vqvae.encode(image)
    decoded = (vqvae.decode_structure(e.structure), vqvae.decode_texture(e.texture), vqvae.decode(*e[2:4]))
    codes = (
        (encoder.structure_quantiser.codebook, e.structure_codes),
        (encoder.texture_quantiser.codebook, e.texture_codes),
    )
    shown = [coloured(*both, pictures.size) for both in codes]
    return grid([pictures.array, *(to_uint8(x) for x in decoded), *shown])


def coloured(codebook: Tensor, codes: Tensor, size: int) -> np.ndarray:
    """Return codes (N, h, w) as squares of a colour each, uint8 (N, size, size, 3).

    Codes whose prototypes are alike have like colours: red, green and blue are the ranks along the first three
    principal components of the codebook (K, D).
    """
    centred = codebook - codebook.mean(0)
    along = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:3].T
    colours = (along.argsort(0).argsort(0) * 255 / max(len(codebook) - 1, 1)).round().to(torch.uint8)
    each = size // codes.shape[1]
    return colours[codes].repeat_interleave(each, 1).repeat_interleave(each, 2).cpu().numpy()


def side_by_side(methods: Sequence[Method], pictures: Pictures, holes: Sequence[np.ndarray]) -> Image.Image:
    """Return photos and masked pictures, then every method's completions of them in a box under its name."""
    blocks = [("photo", pictures.array[:, None])]
    blocks.append(("masked", np.stack([masked(p, h) for p, h in zip(pictures.array, holes, strict=True)])[:, None]))
    for method in methods:
        rows = enumerate(zip(pictures.array, holes, pictures.names, strict=True))
        done = [method.complete(photo, hole, k, name).composites for k, (photo, hole, name) in rows]
        blocks.append((method.name, np.stack(done)))
    grids = [(title, grid(list(shown.swapaxes(0, 1)))) for title, shown in blocks]
    titles = [textwrap.wrap(title, shown.width // LETTER) for title, shown in grids]
    lines = max(map(len, titles))
    boxes = [boxed(title, lines, shown) for title, (_, shown) in zip(titles, grids, strict=True)]
    sheet = Image.new("RGB", (sum(b.width for b in boxes), boxes[0].height), "white")
    for k, box in enumerate(boxes):
        sheet.paste(box, (sum(b.width for b in boxes[:k]), 0))
    return sheet


def boxed(title: Sequence[str], lines: int, picture: Image.Image) -> Image.Image:
    """Return a picture in a frame under the lines of its title, with room for so many `lines`."""
    top = LINE * lines
    sheet = Image.new("RGB", (picture.width + 6, picture.height + top + 6), "white")
    sheet.paste(picture, (3, top + 3))
    draw = ImageDraw.Draw(sheet)
    for k, line in enumerate(title):
        draw.text((4, 1 + LINE * k), line, fill="black", font_size=10)
    draw.rectangle((1, top, sheet.width - 2, sheet.height - 2), outline="black")
    return sheet


def masked(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return a photo (H, W, 3) whose hole is grey, as the networks see it."""
    return np.where(hole[..., None], np.uint8(128), photo)
