"""The table of scores, and how a terminal, Markdown, LaTeX and the HTML page show it."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import rich
import rich.table
from rich.box import SIMPLE_HEAD
from rich.text import Text

from seesr_pl.evaluation.benchmark import Published
from seesr_pl.evaluation.metrics import ImageMetric, Metric
from seesr_pl.evaluation.results import Result
from seesr_pl.evaluation.severity import SeverityRow
from seesr_pl.evaluation.statistics import Interval
from seesr_pl.text import in_latex, in_markdown, rich_text, say, shown

if TYPE_CHECKING:
    from seesr_pl.evaluation.semantics import TagRow

ARROWS = {True: "\u2191", False: "\u2193"}
LATEX_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}
PUBLISHED = "published"


class Cell(NamedTuple):
    """A mean, its 95 % interval where it was measured, and its rank among what was measured; 0 is none."""

    mean: float
    interval: Interval | None = None
    rank: int = 0


class Row(NamedTuple):
    """A method with a cell for each metric, None where it has no value; `published` rows were not measured here.

    `source` says where a published row was read, and how sure that is.
    """

    method: str
    cells: list[Cell | None]
    published: bool = False
    source: str = ""


class Column(NamedTuple):
    """A metric as a table shows it."""

    name: str
    higher_is_better: bool


class ScoreTable(NamedTuple):
    """Metrics as columns; measured methods and then published ones as rows."""

    metrics: list[Column]
    rows: list[Row]


class Shown(NamedTuple):
    """What a command shows at its end: a table if there is one, metrics skipped with the reason, files, sentences.

    `failed`: why an image was not restored.
    """

    table: rich.table.Table | None
    skipped: Mapping[str, str]
    files: Sequence[Path]
    sentences: Sequence[str] = ()
    failed: Mapping[str, str] = MappingProxyType({})


def show(result: Shown) -> None:
    """Print the table and what it shows in words, what was skipped, and a path a line."""
    if result.table is not None:
        rich.print(result.table)
    for sentence in result.sentences:
        say(sentence)
    for name, reason in result.skipped.items():
        say(f"{name}: {reason}", label="skipped")
    for name, reason in result.failed.items():
        say(f"{name}: {reason}", label="not restored", style="red")
    for path in result.files:
        print(shown(path))


def score_table(
    results: Sequence[Result],
    metrics: Sequence[Metric],
    published: Published | None = None,
) -> ScoreTable:
    """Gather the means of `results`, as `interval_table` does, and below them what others published."""
    columns = [Column(metric.name, metric.higher_is_better) for metric in metrics]
    table = interval_table([(result.name, result.intervals) for result in results], columns)
    for method, values in (published or {}).items():
        cells = [Cell(float(values[m.name])) if m.name in values else None for m in columns]
        source = "; ".join(str(values[word]) for word in ("source", "confidence") if word in values)
        table.rows.append(Row(method, cells, published=True, source=source))
    return table


def interval_table(rows: Sequence[tuple[str, Mapping[str, Interval]]], columns: Sequence[Column]) -> ScoreTable:
    """Gather what was measured, each row a method's name and its intervals by metric.

    The best mean of a metric has rank 1, the second 2; equal means share a rank, and one alone has none.
    """
    means = {c.name: [values[c.name].mean for _, values in rows if c.name in values] for c in columns}
    ranked = {c.name: sorted(means[c.name], reverse=c.higher_is_better)[:2] for c in columns}
    laid = [Row(name, [_measured(values.get(c.name), ranked[c.name]) for c in columns]) for name, values in rows]
    return ScoreTable(list(columns), laid)


def format_number(value: float | str | None) -> str:
    """Write a number with 4 decimals under 10, 2 above, none if it is an integer; text as it is, `-` for None."""
    if value is None or isinstance(value, str):
        return value or "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def interval_text(interval: Interval) -> str:
    """Write a mean with its interval, and how many images it is of."""
    return f"{format_number(interval.mean)} ({bounds(interval)}), {interval.n} images"


def bounds(interval: Interval, before: str = "") -> str:
    """Write the bounds of an interval after the words `before`, or that there is none: of one photograph."""
    if isnan(interval.low):
        return "no interval"
    return f"{before}{format_number(interval.low)} to {format_number(interval.high)}"


def terminal(table: ScoreTable, *, title: str) -> rich.table.Table:
    """Lay the table out for a terminal, with intervals."""
    laid = rich.table.Table("method", title=rich_text(title, style="bold"), title_justify="left")
    for metric in table.metrics:
        laid.add_column(f"{metric.name} {ARROWS[metric.higher_is_better]}", justify="right")
    for before, row in zip([None, *table.rows], table.rows, strict=False):
        if row.published and before is not None and not before.published:
            laid.add_section()
        method = f"{row.method}, {PUBLISHED}" if row.published else row.method
        laid.add_row(rich_text(method), *map(_in_terminal, row.cells), style="dim" if row.published else None)
    sources = dict.fromkeys(f"{row.method}: {row.source}" for row in table.rows if row.source)
    laid.caption, laid.caption_justify = Text(shown("\n".join(sources), lines=True)) if sources else None, "left"
    return laid


def markdown(table: ScoreTable) -> str:
    """Write the table as Markdown, the best value of each metric bold."""
    heads = [f"{m.name} ({'higher' if m.higher_is_better else 'lower'} is better)" for m in table.metrics]
    lines = ["| " + " | ".join(["method", *heads]) + " |", "| --- |" + " ---: |" * len(heads)]
    for row in table.rows:
        lines.append(
            "| " + " | ".join([in_markdown(_method(row)), *(_marked(cell, {1: "**{}**"}) for cell in row.cells)]) + " |"
        )
    return "\n".join(lines) + "\n"


def latex(table: ScoreTable) -> str:
    """Write the table as a LaTeX tabular (booktabs), the best value of each metric bold, the second underlined."""
    heads = [f"{in_latex(m.name)} {LATEX_ARROWS[m.higher_is_better]}" for m in table.metrics]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule", " & ".join(["method", *heads]) + r" \\"]
    lines.append(r"\midrule")
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    for row in table.rows:
        lines.append(" & ".join([in_latex(_method(row)), *(_marked(cell, marks) for cell in row.cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def by_degradation(rows: Sequence[SeverityRow], metrics: Sequence[ImageMetric]) -> rich.table.Table:
    """Lay the means by severity and kind out for a terminal, with the number of images of each part."""
    laid = rich.table.Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    laid.add_column("degradation (images)", no_wrap=True)
    for metric in metrics:
        laid.add_column(metric.name, justify="right")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is None or before.part != row.part:
            count = max((interval.n for interval in row.intervals.values()), default=0)
            laid.add_row(rich_text(f"{row.part} ({count})", style="dim"))
        means = [format_number(row.intervals[m.name].mean) if m.name in row.intervals else "-" for m in metrics]
        laid.add_row(rich_text(f"  {row.method}"), *means)
    return laid


def stacked(parts: Sequence[rich.table.Table]) -> rich.table.Table:
    """Lay tables out one below the other."""
    laid = rich.table.Table.grid(padding=(0, 0, 1, 0))
    for part in parts:
        laid.add_row(part)
    return laid


def tags(rows: Sequence["TagRow"]) -> rich.table.Table:
    """Lay the comparison of DAPE with plain RAM out for a terminal, a line for each metric and part of the images."""
    laid = rich.table.Table(
        title="tags on the LQ image, judged by RAM's on the HQ image",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("metric", "n", "RAM", "DAPE", "DAPE-RAM", "95 % interval"):
        laid.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for row in rows:
        if row.metric == rows[0].metric:
            laid.add_section()
            laid.add_row(rich_text(row.part))
        interval = "-" if isnan(row.low) else f"{row.low:+.4f} to {row.high:+.4f}"
        numbers = (f"{row.ram:.4f}", f"{row.dape:.4f}", f"{row.difference:+.4f}")
        laid.add_row(row.metric, str(row.n), *numbers, interval)
    return laid


def _measured(interval: Interval | None, ranked: Sequence[float]) -> Cell | None:
    if interval is None:
        return None
    rank = ranked.index(interval.mean) + 1 if len(ranked) > 1 and interval.mean in ranked else 0
    return Cell(interval.mean, interval, rank)


def _in_terminal(cell: Cell | None) -> str:
    if cell is None or cell.interval is None:
        return format_number(None if cell is None else cell.mean)
    return f"{cell.mean:.4f} [dim]({bounds(cell.interval)})[/]"


def _method(row: Row) -> str:
    return f"{row.method} ({row.source or PUBLISHED})" if row.published else row.method


def _marked(cell: Cell | None, marks: Mapping[int, str]) -> str:
    if cell is None:
        return "-"
    return marks.get(cell.rank, "{}").format(format_number(cell.mean))
