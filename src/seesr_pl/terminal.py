"""What an evaluation shows in the terminal: progress with the time left, and the table of scores."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from seesr_pl.evaluation.judge import Result
from seesr_pl.evaluation.metrics import ImageMetric
from seesr_pl.evaluation.report import format_number
from seesr_pl.evaluation.semantics import TagRow
from seesr_pl.evaluation.statistics import Interval

T = TypeVar("T")
ARROWS = {True: "\u2191", False: "\u2193"}


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Go through `items` with a bar, the count, the time gone and the time left."""
    columns = [TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn()) as progress:
        yield from progress.track(items, description=description)


def show_scores(
    results: Sequence[Result],
    metrics: Sequence[ImageMetric],
    *,
    title: str,
    published: Mapping[str, Mapping[str, float]],
    skipped: Mapping[str, str],
) -> None:
    """Print one row for each method, then what others published, then the metrics that were skipped and why."""
    console = Console()
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("method")
    for metric in metrics:
        table.add_column(f"{metric.name} {ARROWS[metric.higher_is_better]}", justify="right")
    for result in results:
        table.add_row(result.name, *(_cell(result.intervals.get(metric.name)) for metric in metrics))
    if published:
        table.add_section()
    for method, values in published.items():
        table.add_row(f"{method}, published", *(format_number(values.get(m.name)) for m in metrics), style="dim")
    console.print(table)
    for name, reason in skipped.items():
        console.print(f"[yellow]skipped[/] {name}: {reason}", highlight=False)


def show_tags(rows: Sequence[TagRow]) -> None:
    """Print the comparison of DAPE with plain RAM, a line for each metric."""
    table = Table(
        title="tags on the LQ image, judged by RAM's on the HQ image",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("metric", "n", "RAM", "DAPE", "DAPE-RAM", "95 % interval"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for row in rows:
        interval = "-" if isnan(row.low) else f"{row.low:+.4f} to {row.high:+.4f}"
        numbers = (f"{row.ram:.4f}", f"{row.dape:.4f}", f"{row.difference:+.4f}")
        table.add_row(row.metric, str(row.n), *numbers, interval)
    Console().print(table)


def show_files(paths: Sequence[Path]) -> None:
    """Print where the results lie."""
    for path in paths:
        if path.exists():
            Console().print(str(path), soft_wrap=True, highlight=False)


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.mean:.4f} [dim]({format_number(interval.low)} to {format_number(interval.high)})[/]"
