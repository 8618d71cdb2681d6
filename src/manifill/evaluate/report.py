"""The report of an evaluation: one HTML page with its plots and grids beside it as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from manifill.evaluate import table
from manifill.evaluate.methods import Method
from manifill.evaluate.scores import Scores, Task
from manifill.networks.atomic import write_atomic
from manifill.photos.tensors import grid
from manifill.train.page import rendered

PUBLISHED = {"psnr": 24.56, "ssim_skimage7": 0.8675, "IS": 3.456, "MIS": 0.0245, "FID": 9.784}
PUBLISHED_DIVERSITY = 0.029  # by LPIPS, of composites
PUBLISHED_PROTOCOL = (
    "Table 1 of the paper: CelebA-HQ, 1,000 pictures of 256x256, centre hole of 128x128, the authors' full-size model; "
    "SSIM as scikit-image computes it, IS, MIS (ten parts of each set of samples) and FID "
    "with Inception of 2015, diversity with LPIPS, of the composites."
)
TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 4  # pictures in each grid


def write(out: Path, result: dict[str, Any], scored: dict[str, Scores], task: Task, methods: Sequence[Method]) -> None:
    """Write OUT/report.html, the plots and the grids of best, median and worst completions."""
    found = result["methods"]
    if result["curve"]:
        plot_curve(result["curve"], out / "curve.png")
    for method in methods:
        extremes(scored[method.name], task, method).save(out / f"grid_{method.name}.png")
    values = {
        "title": "manifill evaluate",
        "figures": figure_table(found),
        "notes": [PUBLISHED_PROTOCOL, *dict.fromkeys(note for m in found.values() for note in m["notes"])],
        "curve": "curve.png" if result["curve"] else "",
        "grids": [(method.name, f"grid_{method.name}.png") for method in methods],
        "about": about_table(found),
    }
    write_atomic(out / "report.html", rendered(TEMPLATES / "report.html", values))


def figure_table(methods: dict[str, Any]) -> list[list[str]]:
    """Return figures by row, methods by column, and the paper's where it has the figure; first the head."""
    body = []
    for key, (title, *values, said) in table.lines(methods).items():
        published = PUBLISHED_DIVERSITY if key.startswith("diversity_composite_LPIPS") else PUBLISHED.get(key)
        body.append([title, *values, table.number(published), said])
    return [["metric", *methods, "the paper, other protocol", "what it says"], *body]


def about_table(methods: dict[str, Any]) -> list[list[str]]:
    """Return what every result states of itself; first the head."""
    keys = list(dict.fromkeys(key for m in methods.values() for key in m["about"]))
    return [["", *methods]] + [[k, *(str(m["about"].get(k, "")) for m in methods.values())] for k in keys]


def extremes(scores: Scores, task: Task, method: Method) -> Image.Image:
    """Return a grid of the pictures with the best, middle and worst first completion by PSNR; each row says which."""
    order = np.argsort(-scores.values["psnr"][:, 0], kind="stable")
    middle = max((len(order) - SHOWN) // 2, 0)
    chosen = {"best": order[:SHOWN], "middle": order[middle : middle + SHOWN], "worst": order[-SHOWN:]}
    said: dict[int, str] = {}  # of each picture once, where there are few
    for name, positions in chosen.items():
        for i in positions:
            said.setdefault(int(i), f"{name}\nPSNR {scores.values['psnr'][i, 0]:.1f} dB")
    lines = []
    for i, words in said.items():
        k = int(scores.index[i])
        photo, hole = task.pictures.array[k], task.holes(k)
        done = method.complete(photo, hole, k, task.pictures.names[k]).composites[:6]
        masked = np.where(hole[..., None], np.uint8(255), photo)
        lines.append(np.stack([label(words, len(photo)), photo, masked, *done]))
    return grid([np.stack(column) for column in zip(*lines, strict=True)])


def label(text: str, side: int) -> np.ndarray:
    """Return text on a white square, uint8 (side, side, 3)."""
    cell = Image.new("RGB", (side, side), "white")
    font = ImageFont.load_default(max(9, side // 9))
    ImageDraw.Draw(cell).multiline_text((side // 16, side // 2), text, "black", font, "lm")
    return np.asarray(cell)


def plot_curve(points: Sequence[dict[str, float]], path: Path) -> None:
    """Plot the first Fréchet distance against the first diversity over temperature and top-p."""
    from matplotlib.figure import Figure

    quality = next(k for k in points[0] if k.startswith(("FD-", "FID")))
    spread = next((k for k in points[0] if k.startswith("diversity_composite_")), "l1")
    figure = Figure((6, 4), layout="tight")
    axes = figure.add_subplot()
    axes.plot([p[spread] for p in points], [p[quality] for p in points], "o")
    for p in points:
        axes.annotate(f"T {p['temperature']}, p {p['top_p']}", (p[spread], p[quality]), fontsize=8)
    axes.set(xlabel=spread, ylabel=f"{quality} (lower is better)")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
