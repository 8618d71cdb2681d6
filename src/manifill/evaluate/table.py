"""The metrics of an evaluation in a table that a reader can use: names, units, what is better, and what each says."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARROWS = {"lower": "↓", "higher": "↑", "1": "→ 1", "": ""}
LATEX = {"lower": r"$\downarrow$", "higher": r"$\uparrow$", "1": r"$\to 1$", "": ""}


@dataclass(frozen=True)
class Metric:
    """A metric: its name, unit, what is better ("lower", "higher", near "1", or ""), and what it says in a sentence.

    `least` is the number of pictures below which it means nothing.
    """

    name: str
    unit: str
    better: str
    says: str
    least: int = 1


# By the beginning of the key; what follows it is the name of a feature network. The 200 pictures are measured: see
# docs/evaluation.md. FID takes as many as its network has features; the other numbers are not measured, only cautious.
KINDS: dict[str, Metric] = {
    "l1": Metric(
        "L1", "of full scale", "lower", "Mean difference to the photo, from which even right ones may be far."
    ),
    "psnr": Metric("PSNR", "dB", "higher", "Nearness to the photo, by squared differences."),
    "ssim_skimage7": Metric("SSIM, as scikit-image", "", "higher", "Nearness to the photo's structure, 7x7 windows."),
    "ssim_gauss11": Metric("SSIM, Gaussian window", "", "higher", "The same, with the windows that came first."),
    "seam_photo": Metric("Step in the photo", "grey levels", "", "Mean difference of neighbours beside the hole."),
    "seam_ratio": Metric("Border step / photo's", "", "1", "Above 1, the hole's border shows."),
    "seam": Metric("Step at the border", "grey levels", "", "Mean difference of neighbours across the hole's border."),
    "bits": Metric("Bits a code", "bits", "lower", "How much the photo's own codes surprise the structure generator."),
    "perceptual": Metric("Distance to the photo", "", "lower", "Perceptual distance of completion and photo."),
    "diversity_composite": Metric("Diversity", "", "higher", "Perceptual distance of two completions of one photo."),
    "diversity_hole": Metric("Diversity, the hole alone", "", "higher", "The same of the box around the hole."),
    "diversity_full": Metric("Diversity, as painted", "", "higher", "The same of the pictures before they are pasted."),
    "diversity_score": Metric("Diversity score", "", "higher", "What choosing the best at each place would gain."),
    "FD": Metric("Fréchet distance", "", "lower", "How far the completions as a set are from the photos.", 200),
    "KD": Metric("Kernel distance", "", "lower", "The same, without bias by the number of pictures.", 200),
    "FID": Metric("FID", "", "lower", "How far the completions as a set are from the photos.", 2048),
    "KID": Metric("KID", "", "lower", "The same, without bias by the number of pictures.", 200),
    "precision": Metric("Precision", "", "higher", "Fraction of completions that lie among the photos.", 200),
    "recall": Metric("Recall", "", "higher", "Fraction of photos that lie among the completions.", 200),
    "P-IDS": Metric("P-IDS", "", "higher", "Fraction of completions that a linear judge prefers to their photo.", 3000),
    "U-IDS": Metric("U-IDS", "", "higher", "Fraction that a linear judge puts on the wrong side.", 3000),
    "IS": Metric("Inception Score", "", "higher", "Clear and varied kinds of pictures, by a classifier.", 1000),
    "MIS": Metric("Modified Inception Score", "", "higher", "The paper's variant, for pictures of one kind.", 1000),
}


def metric(key: str) -> Metric:
    """Return what there is to say of a metric by its key in figures.json, "psnr" or "FD-EfficientNet"."""
    kind = max((k for k in KINDS if re.match(rf"{re.escape(k)}(?=$|[-_])", key)), key=len, default=None)
    if kind is None:
        return Metric(key, "", "", "")
    found, network = KINDS[kind], key[len(kind) + 1 :]
    name = f"{found.name} ({network})" if network else found.name
    return Metric(name, found.unit, found.better, found.says, found.least)


def keys(methods: dict[str, Any]) -> list[str]:
    """Return the keys of all metrics of all methods, in order."""
    return list(dict.fromkeys(key for m in methods.values() for key in m["figures"]))


def number(value: float | None) -> str:
    """Return a number with four digits, nothing for none."""
    return "" if value is None else f"{value:.4g}"


def metric_title(key: str, arrow: bool = True) -> str:
    """Return a metric's name with its unit and an arrow to what is better."""
    found = metric(key)
    parts = (found.name, found.unit and f"[{found.unit}]", ARROWS[found.better] if arrow else "")
    return " ".join(part for part in parts if part)


def too_few(key: str, count: int) -> str:
    """Return in words that a metric of so many pictures means nothing, or nothing."""
    return f"{count} pictures: it takes {metric(key).least:,}" if count < metric(key).least else ""


def lines(methods: dict[str, Any]) -> dict[str, list[str]]:
    """Return a row for each metric: title, a number for each method, what it says; those of too few pictures last."""
    count = min(m["about"].get("pictures", 1) for m in methods.values())
    found = {}
    for key in sorted(keys(methods), key=lambda key: bool(too_few(key, count))):
        said = metric(key).says + (f" Means nothing of {warned}." if (warned := too_few(key, count)) else "")
        found[key] = [metric_title(key), *(number(m["figures"].get(key)) for m in methods.values()), said]
    return found


def markdown(methods: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    head = ["metric", *methods, "what it says"]
    body = [head, ["---", *("---:" for _ in methods), "---"], *lines(methods).values()]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in body)


def latex(methods: dict[str, Any]) -> str:
    """Return the table in LaTeX, for the package booktabs, without what means nothing of so few pictures."""
    count = min(m["about"].get("pictures", 1) for m in methods.values())
    lines = [["", *map(_escaped, methods)]]
    for key in (key for key in keys(methods) if not too_few(key, count)):
        title = f"{_escaped(metric_title(key, arrow=False))} {LATEX[metric(key).better]}".strip()
        lines.append([title, *(number(m["figures"].get(key)) for m in methods.values())])
    head, *rows = (" & ".join(line) + r" \\" for line in lines)
    opening, closing = rf"\begin{{tabular}}{{l{'r' * len(methods)}}}", r"\end{tabular}"
    return "\n".join([opening, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", closing]) + "\n"


def _escaped(text: str) -> str:
    """Return text as LaTeX shows it."""
    return re.sub(r"[&%$#_{}]", lambda found: "\\" + found[0], text)


def comma_separated(methods: dict[str, Any]) -> str:
    """Return the table as CSV: a row for each metric of each method, with all digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "key", "metric", "unit", "better", "value", "pictures", "least_pictures"])
    for name, m in methods.items():
        for key, value in m["figures"].items():
            found, count = metric(key), m["about"].get("pictures", "")
            writer.writerow([name, key, found.name, found.unit, found.better, repr(value), count, found.least])
    return file.getvalue()


def to_text(methods: dict[str, Any]) -> str:
    """Return the table for a terminal, in columns."""
    body = [["", *methods, ""], *lines(methods).values()]
    widths = [max(len(line[k]) for line in body) for k in range(len(body[0]) - 1)]
    shown = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:]), line[-1]] for line in body]
    return "\n".join("  ".join(line).rstrip() for line in shown)


FILES: dict[str, Callable[[dict[str, Any]], str]] = {
    "figures.md": markdown,
    "figures.tex": latex,
    "figures.csv": comma_separated,
}
