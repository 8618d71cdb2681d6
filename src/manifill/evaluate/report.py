"""The report of an evaluation: one HTML page with its plots and grids beside it as PNG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from manifill.checkpoint import write_atomic
from manifill.evaluate.methods import Method
from manifill.evaluate.scores import Scores
from manifill.image import grid

if TYPE_CHECKING:
    from manifill.evaluate.run import Task

PUBLISHED = {
    "PSNR": 24.56, "SSIM": 0.8675, "IS": 3.456, "MIS": 0.0245, "FID": 9.784, "diversity (LPIPS)": 0.029,
}  # fmt: skip
PUBLISHED_PROTOCOL = (
    "Table 1 of the paper: CelebA-HQ, 1,000 pictures of 256x256, centre hole of 128x128, the authors' full-size model; "
    "SSIM as scikit-image computes it, IS, MIS and FID with Inception of 2015, diversity with LPIPS."
)
SHOWN = 4  # pictures in each grid

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100%; height: auto }}
.wide {{ overflow-x: auto }}
</style></head><body><h1>{title}</h1>{body}</body></html>
"""


def write(out: Path, result: dict[str, Any], scored: dict[str, Scores], task: Task, methods: Sequence[Method]) -> None:
    """Write OUT/report.html, the plots and the grids of best, median and worst completions."""
    said = [PUBLISHED_PROTOCOL, *dict.fromkeys(note for m in result["methods"].values() for note in m["notes"])]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in said)
    parts = [section("Figures", figure_table(result["methods"]) + text)]
    if result["curve"]:
        path = out / "curve.png"
        plot_curve(result["curve"], path)
        parts.append(section("Quality against diversity", picture(path, "Fréchet distance against diversity")))
    for method in methods:
        path = out / f"grid_{method.name}.png"
        shown = extremes(scored[method.name], task, method)
        shown.save(path)
        text = "Photo, masked, completions: the best, the middle and the worst by PSNR of their first completion."
        parts.append(section(method.name, f"<p>{text}</p>" + picture(path, f"completions of {method.name}")))
    parts.append(section("What was evaluated", about_table(result["methods"])))
    page = PAGE.format(title="manifill evaluate", body="".join(parts))
    write_atomic(out / "report.html", lambda f: f.write(page.encode()))


def section(title: str, body: str) -> str:
    """Return a section of the page; `body` is HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def picture(path: Path, text: str) -> str:
    """Return an image element with its text alternative."""
    return f'<img src="{html.escape(path.name)}" alt="{html.escape(text)}">'


def rows(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in body)
    return (
        f'<div class="wide"><table><tr>{head}</tr>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"
    )


def figure_table(methods: dict[str, Any]) -> str:
    """Return figures by row, methods by column, and the paper's where it has the figure."""
    names = list(dict.fromkeys(key for m in methods.values() for key in m["figures"]))
    body = [
        [name, *(number(m["figures"].get(name)) for m in methods.values()), number(PUBLISHED.get(paper_name(name)))]
        for name in names
    ]
    return rows(["", *methods, "the paper, other protocol"], body)


def paper_name(name: str) -> str:
    """Return the paper's name of a figure, where both are of the same kind."""
    same = {
        "psnr": "PSNR",
        "ssim_skimage7": "SSIM",
        "FID": "FID",
        "IS": "IS",
        "MIS": "MIS",
    }
    return same.get(name, "diversity (LPIPS)" if name.startswith("diversity_full_LPIPS") else "")


def number(value: float | None) -> str:
    """Return a figure with four digits."""
    return "" if value is None else f"{value:.4g}"


def about_table(methods: dict[str, Any]) -> str:
    """Return what every result states of itself."""
    keys = list(dict.fromkeys(key for m in methods.values() for key in m["about"]))
    return rows(["", *methods], [[k, *(str(m["about"].get(k, "")) for m in methods.values())] for k in keys])


def extremes(scores: Scores, task: Task, method: Method) -> Any:
    """Return a grid of the pictures with the best, middle and worst first completion by PSNR."""
    order = np.argsort(-scores.values["psnr"][:, 0], kind="stable")
    middle = max((len(order) - SHOWN) // 2, 0)
    chosen = [*order[:SHOWN], *order[middle : middle + SHOWN], *order[-SHOWN:]]
    lines = []
    for k in dict.fromkeys(int(scores.index[i]) for i in chosen):
        photo, hole = task.pictures.array[k], task.holes(k)
        done = method.complete(photo, hole, k, task.pictures.names[k]).composites[:6]
        lines.append(np.stack([photo, np.where(hole[..., None], np.uint8(255), photo), *done]))
    return grid([np.stack(column) for column in zip(*lines, strict=True)])


def plot_curve(points: Sequence[dict[str, float]], path: Path) -> None:
    """Plot the first Fréchet distance against the first diversity over temperature and top-p."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    quality = next(k for k in points[0] if k.startswith(("FD-", "FID")))
    spread = next((k for k in points[0] if k.startswith("diversity_composite_")), "l1")
    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.plot([p[spread] for p in points], [p[quality] for p in points], "o")
    for p in points:
        axes.annotate(f"T {p['temperature']}, p {p['top_p']}", (p[spread], p[quality]), fontsize=8)
    axes.set(xlabel=spread, ylabel=f"{quality} (lower is better)")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
