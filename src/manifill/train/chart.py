"""Curves over training steps, drawn by matplotlib as SVG for a page, whose light or dark colours it takes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

POINTS = 400  # at most that are drawn of a curve
LOGARITHMIC = 20.0  # ratio of highest to lowest value from which the axis is logarithmic
COLOURS = ("#3a80cc", "#d0661f", "#2f9060", "#9a5fc0")  # seen on white and on black
TEXT = "#000001"  # of text and axes in the drawing; it becomes the page's own colour


@dataclass(frozen=True)
class Curve:
    """Values over steps (n, 2); `noisy` ones, of single batches, are drawn thin with a smoothed line."""

    name: str
    points: np.ndarray
    noisy: bool

    @property
    def line(self) -> np.ndarray:
        """The points, those of a noisy curve smoothed."""
        return smoothed(self.points) if self.noisy else self.points

    @property
    def latest(self) -> str:
        """The name and the last value."""
        return f"{self.name} {self.line[-1, 1]:.4g}"


def chart(title: str, curves: Sequence[Curve]) -> str:
    """Return curves, of which each has a point, as an SVG element; text in it is text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "manifill", "font.size": 9.0, "font.family": "sans-serif"}
    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with rc_context(style | dict.fromkeys(coloured, TEXT)):
        figure = Figure((4.4, 2.8), layout="constrained")  # room for whatever the numbers beside the axis take
        axes = figure.add_subplot(xlabel="step", ylabel=title)
        for curve, colour in zip(curves, COLOURS, strict=False):
            if curve.noisy:
                axes.plot(*thinned(curve.points).T, color=colour, linewidth=0.6, alpha=0.5)
            marker = "." if len(curve.line) <= 40 else ""
            axes.plot(*thinned(curve.line).T, color=colour, marker=marker, linewidth=1.5, gid="curve", label=curve.name)
        (low, high), last = limits(curves), max(1.0, *(c.points[-1, 0] for c in curves))
        axes.set(
            xlim=(0, 1.02 * last), ylim=(low, high), yscale="log" if low > 0 and high / low >= LOGARITHMIC else "linear"
        )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    drawn = re.sub(r'<metadata>.*?</metadata>| xmlns(:\w+)?="[^"]*"', "", buffer.getvalue(), flags=re.DOTALL)
    said = escape(f"{title} over {last:.0f} steps; latest: {', '.join(curve.latest for curve in curves)}")
    drawn = drawn[drawn.index("<svg") :].replace(TEXT, "currentColor")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{said}"', 1)


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the ends of the axis of values: of single batches it leaves out the outermost hundredth."""
    ends = [np.percentile(c.points[:, 1], (1, 99) if c.noisy else (0, 100)) for c in curves]
    low, high = float(np.min(ends)), float(np.max(ends))
    if low > 0 and high / low >= LOGARITHMIC:
        return low * 0.9, high * 1.1
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def thinned(points: np.ndarray) -> np.ndarray:
    """Return at most POINTS of the points at even distances, the last among them."""
    return points[np.unique(np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int))]


def smoothed(points: np.ndarray) -> np.ndarray:
    """Return the running mean over a twentieth of the points, shorter at both ends."""
    count = len(points)
    sums, middle = np.concatenate([[0.0], np.cumsum(points[:, 1])]), np.arange(count)
    wide = np.minimum(count // 40, np.minimum(middle, count - 1 - middle))
    return np.stack([points[:, 0], (sums[middle + wide + 1] - sums[middle - wide]) / (2 * wide + 1)], axis=1)
