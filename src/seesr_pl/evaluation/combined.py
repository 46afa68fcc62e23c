"""Several methods on several test sets in one table: for a terminal, as CSV, Markdown, LaTeX and a page."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from seesr_pl.evaluation import tables
from seesr_pl.evaluation.benchmark import FolderBenchmark
from seesr_pl.evaluation.metrics import Metric
from seesr_pl.evaluation.results import Comparison, Result, compare, load_result
from seesr_pl.evaluation.statistics import finite_or_none
from seesr_pl.files import write_whole

TEMPLATES = Path(__file__).parent / "templates"


class Judged(NamedTuple):
    """A finished evaluation: its test set, its folder, its metrics, and the row's name in a table."""

    benchmark: FolderBenchmark
    folder: Path
    metrics: Sequence[Metric]
    label: str


class SetTable(NamedTuple):
    """What was measured on one test set; `comparisons` are the first method's with each of the others."""

    name: str
    num_images: int
    table: tables.ScoreTable
    results: list[Result]
    comparisons: list[Comparison]


def combine(judged: Sequence[Judged], folder: Path) -> tables.Shown:
    """Gather the evaluations `judged` by test set, write all forms of the table into `folder`, and return what to show.

    Raises ValueError where evaluations of one set have other images.
    """
    names = list(dict.fromkeys(item.benchmark.name for item in judged))
    sets = [_set_table([item for item in judged if item.benchmark.name == name]) for name in names]
    write_whole(folder / "table.csv", _csv(sets))
    write_whole(folder / "table.md", "\n".join(map(_markdown, sets)))
    write_whole(folder / "table.tex", "\n".join(f"% {_title(s)}\n{tables.latex(s.table)}" for s in sets))
    write_whole(folder / "table.html", _page(sets))
    sentences = [f"{s.name}: {row.sentence(s.results[0].name)}" for s in sets for row in s.comparisons]
    sentences += [f"{s.name}, {result.name}: {gap}" for s in sets for result in s.results for gap in result.gaps()]
    shown = tables.stacked([tables.terminal(s.table, title=_title(s)) for s in sets])
    files = [folder / f"table.{ending}" for ending in ("html", "md", "tex", "csv")]
    return tables.Shown(shown, {}, files, sentences)


def _set_table(judged: Sequence[Judged]) -> SetTable:
    benchmark = judged[0].benchmark
    pairs = benchmark.pairs()
    groups = {pair.name: pair.group for pair in pairs}
    results = [load_result(item.folder, groups)._replace(name=item.label) for item in judged]
    metrics = {metric.name: metric for item in judged for metric in item.metrics}
    table = tables.score_table(results, list(metrics.values()), benchmark.published_for(pairs))
    return SetTable(benchmark.name, len(pairs), table, results, compare(results[0], results[1:]))


def _title(item: SetTable) -> str:
    return f"{item.name}, {item.num_images} images"


def _markdown(item: SetTable) -> str:
    words = "".join(f"- {row.sentence(item.results[0].name)}\n" for row in item.comparisons)
    return f"{_title(item)}\n\n{tables.markdown(item.table)}\n{words}"


def _csv(sets: Sequence[SetTable]) -> str:
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["set", "method", "metric", "mean", "low", "high", "images", "seconds_per_image", "source"])
    for item in sets:
        seconds = {result.name: f"{_seconds(result):.4g}" for result in item.results}
        for row in item.table.rows:
            for metric, cell in zip(item.table.metrics, row.cells, strict=True):
                mean, low, high = _numbers(cell)
                counted = cell.interval.n if cell and cell.interval else 0
                measured = [counted, seconds.get(row.method), "measured"]
                told = ["", "", row.source or tables.PUBLISHED] if row.published else measured
                writer.writerow([item.name, row.method, metric.name, mean, low, high, *told])
    return content.getvalue()


def _numbers(cell: tables.Cell | None) -> Iterator[float | str]:
    bounds = (cell.interval.low, cell.interval.high) if cell and cell.interval else (None, None)
    for value in (cell.mean if cell else None, *bounds):
        finite = None if value is None else finite_or_none(value)
        yield "" if finite is None else finite


def _seconds(result: Result) -> float:
    return sum(result.seconds.values()) / max(len(result.seconds), 1)


def _page(sets: Sequence[SetTable]) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    environment.filters |= {"number": tables.format_number, "bounds": tables.bounds}
    style = Markup((TEMPLATES / "report.css").read_text())
    shown = [{"title": _title(item), "item": item, "charts": list(_charts(item))} for item in sets]
    return environment.get_template("table.html.jinja").render(style=style, sets=shown)


def _charts(item: SetTable) -> Iterator[Markup]:
    from seesr_pl.evaluation.charts import scatter_chart  # here, because it imports matplotlib

    for metric in item.table.metrics:
        points = {
            result.name: (_seconds(result), result.intervals[metric.name].mean)
            for result in item.results
            if metric.name in result.intervals
        }
        yield Markup(scatter_chart(points, x_label="seconds per image", y_label=metric.name))
