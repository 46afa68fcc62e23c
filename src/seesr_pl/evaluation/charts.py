"""Charts as SVG that take their colors from the page around them, light or dark."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from math import isfinite
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from seesr_pl.evaluation.statistics import Interval
from seesr_pl.text import shown

NUM_COLORS = 6
WIDTH, HEIGHT, ROW = 560, 260, 34
# Matplotlib knows no CSS variables: each of these colors stands for one until the SVG is written.
TEXT, MUTED, GRID = "#000001", "#000002", "#000003"
SERIES = [f"#0000{16 + index:02x}" for index in range(NUM_COLORS)]
VARIABLES = {TEXT: "--text", MUTED: "--muted", GRID: "--line"} | {c: f"--s{i}" for i, c in enumerate(SERIES)}
# Any: matplotlib's annotation is a Literal of all its keys.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "",
    "text.parse_math": False,
    "text.color": TEXT,
    "font.size": 12,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
}


def line_chart(series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str) -> str:
    """Draw a line for each named series of (x, y) points; points that are not finite are left out. Return SVG."""
    curves = {name: [point for point in points if all(map(isfinite, point))] for name, points in series.items()}
    if not any(curves.values()):
        return '<p class="muted">Nothing was logged.</p>'
    with _svg(HEIGHT) as (axes, svg):
        for index, (name, curve) in enumerate(curves.items()):
            x, y = zip(*curve, strict=True) if curve else ((), ())
            axes.plot(x, y, color=SERIES[index % NUM_COLORS], linewidth=1.5, label=shown(name))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(curves) > 1:
            axes.legend()
    return svg.getvalue()


def scatter_chart(points: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str) -> str:
    """Draw a named point for each (x, y), x on a logarithmic axis where it spans a decade; return SVG."""
    with _svg(HEIGHT) as (axes, svg):
        for index, (name, (x, y)) in enumerate(points.items()):
            if isfinite(x) and isfinite(y) and x > 0:
                axes.plot([x], [y], "o", color=SERIES[index % NUM_COLORS], markersize=7)
                axes.annotate(
                    shown(name), (x, y), xytext=(0, 7), textcoords="offset points", ha="center", color=TEXT, fontsize=10
                )
        costs = [x for x, _ in points.values() if isfinite(x) and x > 0]
        if costs and max(costs) >= 10 * min(costs):
            axes.set_xscale("log")
            # The usual ones write mathematics, which text in SVG has not.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.25)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
    return svg.getvalue()


def strip_chart(values: Mapping[str, Sequence[float]], intervals: Mapping[str, Interval], *, label: str) -> str:
    """Draw for each named row a dot for each value, and its mean with the 95 % interval. Return SVG, or ""."""
    rows = {name: [value for value in row if isfinite(value)] for name, row in values.items()}
    if not any(rows.values()):
        return ""
    with _svg(54 + ROW * len(rows)) as (axes, svg):
        for place, (name, row) in enumerate(rows.items()):
            # A fixed zigzag keeps equal values apart.
            heights = [place + (index * 7 % 15 - 7) * 0.024 for index in range(len(row))]
            color = SERIES[place % NUM_COLORS]
            axes.plot(row, heights, "o", markersize=5, alpha=0.4, markeredgewidth=0, color=color)
            mean, low, high, _ = intervals[name]
            if isfinite(low):
                axes.plot([low, high], [place, place], color=TEXT, alpha=0.55, linewidth=4, solid_capstyle="butt")
            if isfinite(mean):
                axes.plot([mean, mean], [place - 0.32, place + 0.32], color=TEXT, linewidth=1.5)
        axes.set_yticks(range(len(rows)), [shown(name)[:18] for name in rows], color=TEXT)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(shown(label))
    return svg.getvalue()


@contextmanager
def _svg(height: float) -> Iterator[tuple[Axes, StringIO]]:
    """Give axes to draw on, and a buffer that holds the SVG element afterwards."""
    svg, written = StringIO(), StringIO()
    with rc_context(STYLE):
        figure = Figure((WIDTH / 72, height / 72), layout="constrained")
        yield figure.subplots(), svg
        figure.savefig(
            written, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = written.getvalue()
    text = text[text.index("<svg ") :].replace("<svg ", '<svg class="chart" role="img" ', 1)
    # The page's styles are enough, and a second <style> would be for the whole page.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    # Names of parts (axes_1) are the same in each chart of a page; those that are referred to have no underscore.
    text = re.sub(r' id="[\w.]*_\d+"', "", text)
    svg.write(re.sub("|".join(VARIABLES), lambda match: f"var({VARIABLES[match[0]]})", text))
