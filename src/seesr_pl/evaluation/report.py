"""One self-contained HTML page: images side by side under a slider, tables, distributions, and further sections."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from seesr_pl.evaluation.benchmark import Pair, Published
from seesr_pl.evaluation.charts import line_chart, strip_chart
from seesr_pl.evaluation.methods import Bicubic
from seesr_pl.evaluation.metrics import Metric
from seesr_pl.evaluation.results import Comparison, Result
from seesr_pl.evaluation.severity import SeverityRow
from seesr_pl.evaluation.statistics import finite_or_none
from seesr_pl.evaluation.tables import bounds, format_number, interval_text, score_table
from seesr_pl.evaluation.variants import CloseUp
from seesr_pl.files import write_whole
from seesr_pl.imaging.io import read_rgb
from seesr_pl.text import shown as shown_text
from seesr_pl.types import RGB

# No chroma subsampling: it would blur colors that the images under the slider differ in.
JPEG_OPTIONS = [
    *(cv2.IMWRITE_JPEG_QUALITY, 90),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]
MAX_SIDE = 1024
TEMPLATES = Path(__file__).parent / "templates"
LQ, BICUBIC, HQ = "LQ", "bicubic", "HQ"
NUM_CLOSE_UPS = 3


class Table(NamedTuple):
    """A table of a section: column titles and rows of text or numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]


class Chart(NamedTuple):
    """A line chart of a section: `series[name]` is a list of (x, y)."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str = "step"
    y_label: str = ""


class Section(NamedTuple):
    """A further part of the page; whatever is empty is left out. Images are uint8 RGB, by caption."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    images: Mapping[str, RGB] = {}


def write_report(
    path: str | Path,
    *,
    title: str,
    pairs: Sequence[Pair],
    results: Sequence[Result],
    metrics: Sequence[Metric],
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    published: Published | None = None,
    comparisons: Sequence[Comparison] = (),
    sections: Sequence[Section] = (),
    close_ups: Sequence[CloseUp] = (),
    max_megabytes: float = 24.0,
) -> None:
    """Write the page. `results[0]` is the method that is judged, `comparisons` those of it with others.

    Without `results` the page has its sections alone.

    Images are embedded worst first (by the first metric) until `max_megabytes` are full; the page says how many.
    """
    scored = [metric for metric in metrics if metric.name in results[0].intervals] if results else []
    shown = _embedded(pairs, results, metrics, close_ups, budget=max_megabytes * 1e6) if results else {}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, finalize=_as_text)
    environment.filters |= {"number": format_number, "bounds": bounds}
    page = environment.get_template("report.html.jinja").render(
        title=title,
        style=Markup((TEMPLATES / "report.css").read_text()),
        script=Markup((TEMPLATES / "report.js").read_text()),
        facts=facts or {},
        notes=notes,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        judged=results[0] if results else None,
        table=score_table(results, scored, published),
        comparisons=sorted(comparisons, key=lambda row: [result.name for result in results].index(row.reference)),
        charts=_distributions(results, metrics),
        sections=[_rendered(section) for section in sections],
        examples=[*_examples(shown, results[0], metrics), *_close_ups(shown, pairs, results[0], close_ups)]
        if shown
        else [],
        num_images=len(pairs),
        num_shown=len(shown),
        data=Markup(json.dumps(_gallery(shown, results, metrics) if shown else {}).replace("<", "\\u003c")),
    )
    write_whole(path, page)


def degradation_section(rows: Sequence[SeverityRow], metrics: Sequence[Metric]) -> Section:
    """Return the means by severity and by kind of degradation, with a chart of the first metric by severity."""
    named = [metric for metric in metrics if any(metric.name in row.intervals for row in rows)]
    header = ["images degraded", "method", *(f"{metric.name} (95 % interval)" for metric in named)]
    ranges, kinds = [row for row in rows if not row.kind], [row for row in rows if row.kind]
    charts = [
        Chart(
            f"{metric.name} by severity",
            {
                name: [(_middle(row), row.intervals[metric.name].mean) for row in ranges if row.method == name]
                for name in dict.fromkeys(row.method for row in ranges)
            },
            x_label="severity, middle of a range",
            y_label=metric.name,
        )
        for metric in named[:2]
        if all(metric.name in row.intervals for row in ranges)
    ]
    return Section(
        "By degradation",
        "Ranges of severity hold equally many images; a kind is what raises an image's error most.",
        [Table(header, [[row.part, row.method, *_in_words(row, named)] for row in part]) for part in (ranges, kinds)],
        charts if ranges else [],
    )


def _middle(row: SeverityRow) -> float:
    return (row.severity_from + row.severity_to) / 2


def _in_words(row: SeverityRow, metrics: Sequence[Metric]) -> Iterator[str]:
    for metric in metrics:
        found = row.intervals.get(metric.name)
        yield "-" if found is None else interval_text(found)


def data_uri(image: RGB, *, lossless: bool = False) -> str:
    """Encode a uint8 RGB image as a data URI, PNG or JPEG; larger ones are reduced to sides of 1024 pixels."""
    scale = MAX_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    extension, options = (".png", []) if lossless else (".jpg", JPEG_OPTIONS)
    _, encoded = cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]), options)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _embedded(
    pairs: Sequence[Pair],
    results: Sequence[Result],
    metrics: Sequence[Metric],
    close_ups: Sequence[CloseUp],
    *,
    budget: float,
) -> dict[str, dict[str, str]]:
    shown: dict[str, dict[str, str]] = {}
    for pair in _worst_first(pairs, results[0], metrics):
        views = _views(pair, results, close_ups)
        budget -= sum(map(len, views.values()))
        if budget < 0 and shown:
            break
        shown[pair.name] = views
    return shown


def _views(pair: Pair, results: Sequence[Result], close_ups: Sequence[CloseUp]) -> dict[str, str]:
    lq = read_rgb(pair.lq)
    views = {LQ: data_uri(lq, lossless=True)}
    if BICUBIC not in [result.name for result in results]:
        views[BICUBIC] = data_uri(Bicubic()(lq, name=pair.name))
    for result in results:
        if pair.name in result.paths:
            views[result.name] = data_uri(read_rgb(result.paths[pair.name]))
    for close_up in close_ups:
        views |= {name: data_uri(image) for name, image in close_up.images(pair).items()}
    if pair.hq is not None:
        views[HQ] = data_uri(read_rgb(pair.hq))
    return views


def _of_images(metrics: Sequence[Metric], result: Result) -> list[Metric]:
    """Return the metrics of which images have values; that of a set orders none."""
    return [metric for metric in metrics if any(metric.name in scores for scores in result.values.values())]


def _worst_first(pairs: Sequence[Pair], result: Result, metrics: Sequence[Metric]) -> list[Pair]:
    usable = _of_images(metrics, result)
    if not usable:
        return list(pairs)
    sign = 1 if usable[0].higher_is_better else -1
    return sorted(pairs, key=lambda pair: sign * result.values[pair.name].get(usable[0].name, 0.0))


def _examples(
    shown: Mapping[str, Mapping[str, str]], result: Result, metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Return the best, the middle and the worst of the embedded images by the first metric, in few views."""
    usable = _of_images(metrics, result)
    if not usable:
        return []
    names, metric = list(shown), usable[0].name
    chosen = {"best": names[-1], "typical": names[len(names) // 2], "worst": names[0]}
    views = [view for view in (LQ, BICUBIC, result.name, HQ) if view in shown[names[0]]]
    rows = [{"title": title, "name": name, "score": result.values[name].get(metric)} for title, name in chosen.items()]
    return [{"title": f"Best, typical and worst by {metric}", "metric": metric, "views": views, "rows": rows}]


def _close_ups(
    shown: Mapping[str, Mapping[str, str]], pairs: Sequence[Pair], result: Result, close_ups: Sequence[CloseUp]
) -> Iterator[dict[str, Any]]:
    """Yield, for each of `close_ups`, the embedded images with the largest value."""
    by_name = {pair.name: pair for pair in pairs}
    for title, text, metric, views, _, caption in close_ups:
        values = {name: result.values[name][metric.name] for name in shown if metric.name in result.values[name]}
        chosen = sorted(values, key=values.__getitem__, reverse=True)[:NUM_CLOSE_UPS]
        rows = [{"title": caption(by_name[name]), "name": name, "score": values[name]} for name in chosen]
        there = [view for view in views if chosen and view in shown[chosen[0]]]
        yield {"title": title, "text": text, "metric": metric.name, "views": there, "rows": rows}


def _gallery(
    shown: Mapping[str, Mapping[str, str]], results: Sequence[Result], metrics: Sequence[Metric]
) -> dict[str, Any]:
    judged = results[0]
    scores = {
        name: {r.name: {metric: finite_or_none(value) for metric, value in r.values[name].items()} for r in results}
        for name in shown
    }
    return {
        "method": judged.name,
        # An image may lack a view; the order is that of an image which has most.
        "views": list(dict.fromkeys(view for views in sorted(shown.values(), key=len, reverse=True) for view in views)),
        "metrics": [{"name": m.name, "higher": m.higher_is_better} for m in metrics if m.name in judged.intervals],
        "images": [{"name": shown_text(name), "views": views, "scores": scores[name]} for name, views in shown.items()],
    }


def _distributions(results: Sequence[Result], metrics: Sequence[Metric]) -> list[Markup]:
    charts = []
    for metric in metrics:
        scored = {result.name: result for result in results if metric.name in result.intervals}
        having = {name: r for name, r in scored.items() if any(metric.name in values for values in r.values.values())}
        rows = {name: [v[metric.name] for v in r.values.values() if metric.name in v] for name, r in having.items()}
        label = f"{metric.name} ({'higher' if metric.higher_is_better else 'lower'} is better)"
        charts.append(strip_chart(rows, {name: r.intervals[metric.name] for name, r in having.items()}, label=label))
    return [Markup(chart) for chart in charts if chart]


def _as_text(value: Any) -> Any:
    return shown_text(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _rendered(section: Section) -> dict[str, Any]:
    charts = [
        {"title": chart.title, "svg": Markup(line_chart(chart.series, x_label=chart.x_label, y_label=chart.y_label))}
        for chart in section.charts
    ]
    images = [{"caption": caption, "uri": data_uri(image)} for caption, image in section.images.items()]
    return {"title": section.title, "text": section.text, "tables": section.tables, "charts": charts, "images": images}
