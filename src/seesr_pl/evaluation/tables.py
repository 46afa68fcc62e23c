"""The table of scores for a document: Markdown and LaTeX, the best value bold, the second underlined in LaTeX."""

from collections.abc import Mapping, Sequence

from seesr_pl.evaluation.judge import Result
from seesr_pl.evaluation.metrics import ImageMetric

ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}
Row = tuple[str, dict[str, float]]
Published = Mapping[str, Mapping[str, float]]


def markdown_table(
    results: Sequence[Result],
    metrics: Sequence[ImageMetric],
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """A Markdown table with one row for each result and, marked, for what others published."""
    rows = _rows(results, published or {})
    measured = rows[: len(results)]
    heads = [f"{m.name} ({'higher' if m.higher_is_better else 'lower'} is better)" for m in metrics]
    lines = ["| " + " | ".join(["method", *heads]) + " |", "| --- |" + " ---: |" * len(metrics)]
    for name, values in rows:
        cells = [_cell(values, m, measured, "**{}**", "{}", compete=(name, values) in measured) for m in metrics]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def latex_table(
    results: Sequence[Result],
    metrics: Sequence[ImageMetric],
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """A LaTeX tabular (booktabs) of the same rows."""
    rows = _rows(results, published or {})
    measured = rows[: len(results)]
    heads = [f"{_escaped(m.name)} {ARROWS[m.higher_is_better]}" for m in metrics]
    lines = [rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}", r"\toprule", " & ".join(["method", *heads]) + r" \\"]
    lines.append(r"\midrule")
    for name, values in rows:
        compete = (name, values) in measured
        cells = [_cell(values, m, measured, r"\textbf{{{}}}", r"\underline{{{}}}", compete=compete) for m in metrics]
        lines.append(" & ".join([_escaped(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _rows(results: Sequence[Result], published: Published) -> list[Row]:
    measured = [(r.name, {name: interval.mean for name, interval in r.intervals.items()}) for r in results]
    return [*measured, *((f"{name} (published)", dict(values)) for name, values in published.items())]


def _cell(
    values: Mapping[str, float], metric: ImageMetric, measured: Sequence[Row], best: str, second: str, *, compete: bool
) -> str:
    value = values.get(metric.name)
    if value is None:
        return "-"
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    known = [row[metric.name] for _, row in measured if metric.name in row]
    ranked = sorted(known, reverse=metric.higher_is_better)
    if not compete or len(ranked) < 2:
        return text
    if value == ranked[0]:
        return best.format(text)
    return second.format(text) if value == ranked[1] else text


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%")
