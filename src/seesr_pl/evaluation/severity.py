"""Scores by how badly the images were degraded, and by what, for sets whose `severity.csv` tells it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seesr_pl.evaluation.results import Result, csv_text
from seesr_pl.evaluation.statistics import Interval, finite_or_none, metric_intervals
from seesr_pl.files import write_whole

NUM_RANGES = 3


class SeverityRow(NamedTuple):
    """The means of a method over the images whose severity lies between the bounds, both among them.

    With a `kind`, over the images that this kind degraded most; "" is all kinds.
    """

    method: str
    severity_from: float
    severity_to: float
    intervals: dict[str, Interval]
    kind: str = ""

    @property
    def part(self) -> str:
        """The images in words: `mostly noise` or `severity 0.10 to 0.35`."""
        return f"mostly {self.kind}" if self.kind else f"severity {self.severity_from:.2f} to {self.severity_to:.2f}"


def by_severity(results: Sequence[Result], severities: Mapping[str, float]) -> list[SeverityRow]:
    """Return for each range of severity, mildest first, a row for each result; [] where all severities are equal.

    The ranges are equally filled. Images without a severity are left out.
    """
    known = sorted((severity, image) for image, severity in severities.items() if image in results[0].values)
    num_ranges = min(NUM_RANGES, len({severity for severity, _ in known}))
    if num_ranges < 2:
        return []
    parts = np.array_split(np.arange(len(known)), num_ranges)
    return [row for part in parts for row in _rows(results, [known[index] for index in part], "")]


def by_kind(results: Sequence[Result], severities: Mapping[str, float], kinds: Mapping[str, str]) -> list[SeverityRow]:
    """Return for each kind of degradation, the most frequent first, a row for each result; [] where there is but one.

    Images without a kind are left out.
    """
    known = {image: kind for image, kind in sorted(kinds.items()) if image in results[0].values}
    counted = Counter(known.values()).most_common()
    if len(counted) < 2:
        return []
    inside = {name: sorted((severities[i], i) for i, kind in known.items() if kind == name) for name, _ in counted}
    return [row for name, images in inside.items() for row in _rows(results, images, name)]


def write_by_severity(path: Path, rows: Sequence[SeverityRow]) -> None:
    """Write `rows` as CSV, a line for each metric; nothing for no rows."""
    columns = ["method", "kind", "severity_from", "severity_to", "metric", "mean", "low", "high", "images"]
    if rows:
        write_whole(path, csv_text(in_lines(rows), columns))


def in_lines(rows: Sequence[SeverityRow]) -> list[dict[str, Any]]:
    """Return a plain mapping for each metric of each row, for CSV and JSON."""
    return [
        {
            **{name: getattr(row, name) for name in ("method", "kind", "severity_from", "severity_to")},
            "metric": metric,
            **dict(zip(("mean", "low", "high"), map(finite_or_none, interval[:3]), strict=True)),
            "images": interval.n,
        }
        for row in rows
        for metric, interval in row.intervals.items()
    ]


def _rows(results: Sequence[Result], inside: Sequence[tuple[float, str]], kind: str) -> list[SeverityRow]:
    """Return the row of each result over the images `inside`, (severity, image), mildest first."""
    bounds = inside[0][0], inside[-1][0]
    values = [{image: result.values[image] for _, image in inside} for result in results]
    return [
        SeverityRow(result.name, *bounds, metric_intervals(scores, result.groups), kind)
        for result, scores in zip(results, values, strict=True)
    ]
