"""Scores by how badly the images were degraded, for sets whose `severity.csv` tells it."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seesr_pl.evaluation.results import Result
from seesr_pl.evaluation.statistics import Interval, finite_or_none, metric_intervals
from seesr_pl.files import write_whole

NUM_RANGES = 3


class SeverityRow(NamedTuple):
    """The means of a method over the images whose severity lies between the bounds, both among them."""

    method: str
    severity_from: float
    severity_to: float
    intervals: dict[str, Interval]


def by_severity(results: Sequence[Result], severities: Mapping[str, float]) -> list[SeverityRow]:
    """Return for each range of severity, mildest first, a row for each result; [] where all severities are equal.

    The ranges are equally filled. Images without a severity are left out.
    """
    known = sorted((severity, image) for image, severity in severities.items() if image in results[0].values)
    num_ranges = min(NUM_RANGES, len({severity for severity, _ in known}))
    if num_ranges < 2:
        return []
    rows = []
    for part in np.array_split(np.arange(len(known)), num_ranges):
        inside = [known[index] for index in part]
        for result in results:
            values = {image: result.values[image] for _, image in inside}
            intervals = metric_intervals(values, result.groups)
            rows.append(SeverityRow(result.name, inside[0][0], inside[-1][0], intervals))
    return rows


def write_by_severity(path: Path, rows: Sequence[SeverityRow]) -> None:
    """Write `rows` as CSV, a line for each metric; nothing for no rows."""
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["method", "severity_from", "severity_to", "metric", "mean", "low", "high", "images"])
    for row in rows:
        for metric, interval in row.intervals.items():
            numbers = map(finite_or_none, interval[:3])
            writer.writerow([row.method, row.severity_from, row.severity_to, metric, *numbers, interval.n])
    if rows:
        write_whole(path, content.getvalue())
