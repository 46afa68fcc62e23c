"""Small charts as inline SVG that take their colours from the page, light or dark."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from seesr_pl.evaluation.statistics import Interval

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40
ROW = 34
NUM_COLORS = 6


class Axis(NamedTuple):
    """A linear map from data to pixels with round tick values."""

    low: float
    high: float
    start: float
    end: float
    ticks: list[float]

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str) -> str:
    """One polyline for each named series of (x, y) points; points that are not finite are left out."""
    curves = {name: [p for p in points if all(map(math.isfinite, p))] for name, points in series.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return '<p class="muted">Nothing was logged.</p>'
    x = axis([p[0] for p in points], LEFT, WIDTH - RIGHT)
    y = axis([p[1] for p in points], HEIGHT - BOTTOM, TOP)
    parts = [_grid(x, y), _labels(x_label, y_label)]
    for index, curve in enumerate(curves.values()):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve)
        parts.append(f'<polyline class="line c{index % NUM_COLORS}" points="{path}"/>')
    return _svg(parts, HEIGHT) + _legend(list(curves))


def strip_chart(values: Mapping[str, Sequence[float]], intervals: Mapping[str, Interval], *, label: str) -> str:
    """For each named row a dot for each value, and its mean with the 95 % interval."""
    rows = {name: [v for v in row if math.isfinite(v)] for name, row in values.items()}
    every = [value for row in rows.values() for value in row]
    if not every:
        return ""
    height = TOP + ROW * len(rows) + BOTTOM
    x = axis(every, 120, WIDTH - RIGHT)
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        f'<text class="tick" x="{x(t):.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{_number(t)}</text>'
        for t in x.ticks
    ]
    for index, (name, row) in enumerate(rows.items()):
        parts.append(_strip(x, TOP + ROW * (index + 0.5), name, row, intervals[name], index))
    parts.append(f'<text class="axis" x="{(120 + WIDTH - RIGHT) / 2}" y="{height - 6}">{escape(label)}</text>')
    return _svg(parts, height)


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds all `values`, its ends on round numbers; a single value gets room on both sides."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [round(index * step, 12) for index in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def _round_step(raw: float) -> float:
    power = 10 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


def _strip(x: Axis, y: float, name: str, row: Sequence[float], interval: Interval, index: int) -> str:
    # A fixed zigzag keeps equal values apart.
    dots = "".join(
        f'<circle class="dot c{index % NUM_COLORS}" cx="{x(v):.1f}" cy="{y + (i * 7 % 15 - 7) * 0.8:.1f}" r="2.6"/>'
        for i, v in enumerate(row)
    )
    band = ""
    if math.isfinite(interval.low):
        band = f'<line class="ci" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="{y}" y2="{y}"/>'
    mean = ""
    if math.isfinite(interval.mean):
        mean = (
            f'<line class="mean" x1="{x(interval.mean):.1f}" x2="{x(interval.mean):.1f}" y1="{y - 11}" y2="{y + 11}"/>'
        )
    return f'<text class="row" x="112" y="{y + 4}">{escape(name[:18])}</text>{dots}{band}{mean}'


def _grid(x: Axis, y: Axis) -> str:
    lines = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y(t) + 4:.1f}" text-anchor="end">{_number(t)}</text>'
        for t in y.ticks
    ]
    lines += [
        f'<text class="tick" x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(t)}</text>'
        for t in x.ticks
    ]
    return "".join(lines)


def _labels(x_label: str, y_label: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_label)}</text>'
        f'<text class="axis" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>'
    )


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    items = (f'<span class="key c{index % NUM_COLORS}">{escape(name)}</span>' for index, name in enumerate(names))
    return f'<p class="legend">{"".join(items)}</p>'


def _svg(parts: Sequence[str], height: float) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height:g}" role="img">{"".join(parts)}</svg>'


def _number(value: float) -> str:
    return f"{value:.6g}"
