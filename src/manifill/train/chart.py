"""Curves over training steps as SVG in a page: drawn by the browser, in its colours, sharp at any size."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 240, 52, 26, 10, 12  # of the drawing and its margins
DOTS, POINTS = 400, 160  # at most that are drawn of a curve, and along its smoothed line
LOGARITHMIC = 20.0  # ratio of highest to lowest value from which the axis is logarithmic
STYLE = """.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem }
figure { margin: 0 }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif }
svg text { fill: currentColor }
.lines { stroke: #8885 }
.c0 { color: light-dark(#1d5fa8, #7db8f5) } .c1 { color: light-dark(#b1440c, #ff9f66) }
.c2 { color: light-dark(#1c7044, #6fd3a0) } .c3 { color: light-dark(#7b3fa0, #d0a0f0) }
.curve { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.dots { fill: none; stroke: currentColor; stroke-width: 3; stroke-linecap: round; opacity: .35 }
.marks { fill: none; stroke: currentColor; stroke-width: 6; stroke-linecap: round }
figcaption { font-size: .85rem } figcaption strong { display: block }
"""


@dataclass(frozen=True)
class Curve:
    """Values over steps (n, 2); `noisy` ones, of single batches, are drawn as dots with a smoothed line."""

    name: str
    points: np.ndarray
    noisy: bool


@dataclass(frozen=True)
class Axis:
    """Maps values to coordinates of the drawing: `low` to `start`, `high` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return coordinates; values outside of the axis lie at its ends."""
        scale = np.log if self.logarithmic else np.asarray
        low, high = (float(scale(np.float64(x))) for x in (self.low, self.high))
        share = (scale(np.clip(values, self.low, self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis: powers of ten with their 2 and 5 on a long logarithmic one, else even steps."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            heads = (1, 2, 5) if len(decades) <= 4 else (1,)
            found = [head * 10.0**k for k in decades for head in heads]
        else:
            step = even((self.high - self.low) / 6)
            first = math.ceil(self.low / step - 1e-9)
            found = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [x for x in found if self.low * (1 - 1e-9) <= x <= self.high * (1 + 1e-9) or x == 0]


def even(step: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= step * (1 - 1e-9))


def chart(title: str, curves: Sequence[Curve], note: str = "") -> str:
    """Return curves, of which each has a point, as a figure with its legend and the latest values."""
    steps, values = horizontal(curves), vertical(curves)
    drawn = "".join(draw(curve, k, steps, values) for k, curve in enumerate(curves))
    latest = ", ".join(f"{c.name} {latest_of(c):.4g}" for c in curves)
    legend = " ".join(
        f'<span class="c{k % 4}">●</span> {html.escape(c.name)} {latest_of(c):.4g}' for k, c in enumerate(curves)
    )
    label = html.escape(f"{title} over {curves[0].points[-1, 0]:.0f} steps; latest: {latest}")
    said = f"{legend}<br>{html.escape(note)}" if note else legend
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{grid(steps, values)}{drawn}'
        f"</svg><figcaption><strong>{html.escape(title)}</strong>{said}</figcaption></figure>"
    )


def latest_of(curve: Curve) -> float:
    """Return the last value, of a noisy curve that of its smoothed line."""
    return float((smoothed(curve.points) if curve.noisy else curve.points)[-1, 1])


def horizontal(curves: Sequence[Curve]) -> Axis:
    """Return the axis of the steps, from 0."""
    return Axis(0, max(1.0, *(float(c.points[-1, 0]) for c in curves)), LEFT, WIDTH - RIGHT)


def vertical(curves: Sequence[Curve]) -> Axis:
    """Return the axis of the values: of single batches it leaves out the outermost hundredth."""
    ends = [np.percentile(c.points[:, 1], (1, 99) if c.noisy else (0, 100)) for c in curves]
    low, high = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    if low > 0 and high / low >= LOGARITHMIC:
        return Axis(low * 0.9, high * 1.1, HEIGHT - BOTTOM, TOP, True)
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)


def grid(steps: Axis, values: Axis) -> str:
    """Return the lines and numbers of both axes."""
    parts = []
    for tick, y in zip(values.ticks, values.place(np.array(values.ticks)), strict=True):
        parts.append(
            f'<path class="lines" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{written(tick)}</text>'
        )
    for tick, x in zip(steps.ticks, steps.place(np.array(steps.ticks)), strict=True):
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{written(tick)}</text>')
    return "".join(parts)


def written(tick: float) -> str:
    """Return a tick's number, thousands and millions short."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(tick) >= size:
            return f"{tick / size:.4g}{letter}"
    return f"{tick:.4g}"


def draw(curve: Curve, index: int, steps: Axis, values: Axis) -> str:
    """Return a curve: dots and a smoothed line, or a line through its points."""
    if not curve.noisy:
        shown = thinned(curve.points, POINTS)
        marks = shown if len(shown) <= 40 else shown[-1:]
        return (
            f'<g class="c{index % 4}"><path class="curve" d="{line(shown, steps, values)}"/>'
            f'<path class="marks" d="{dots(marks, steps, values)}"/></g>'
        )
    return (
        f'<g class="c{index % 4}"><path class="dots" d="{dots(thinned(curve.points, DOTS), steps, values)}"/>'
        f'<path class="curve" d="{line(smoothed(curve.points), steps, values)}"/></g>'
    )


def line(points: np.ndarray, steps: Axis, values: Axis) -> str:
    """Return a path through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed(points, steps, values))


def dots(points: np.ndarray, steps: Axis, values: Axis) -> str:
    """Return a path of one dot a point."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in placed(points, steps, values))


def placed(points: np.ndarray, steps: Axis, values: Axis) -> np.ndarray:
    """Return the points' coordinates in the drawing (n, 2)."""
    return np.stack([steps.place(points[:, 0]), values.place(points[:, 1])], axis=1)


def thinned(points: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the points at even distances, the last among them."""
    if len(points) <= count:
        return points
    return points[np.linspace(0, len(points) - 1, count).round().astype(int)]


def smoothed(points: np.ndarray) -> np.ndarray:
    """Return the running mean over a twentieth of the points, shorter at both ends."""
    reach = len(points) // 40
    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    middle = thinned(np.arange(len(points)), POINTS)
    wide = np.minimum(reach, np.minimum(middle, len(points) - 1 - middle))
    mean = (sums[middle + wide + 1] - sums[middle - wide]) / (2 * wide + 1)
    return np.stack([points[middle, 0], mean], axis=1)
