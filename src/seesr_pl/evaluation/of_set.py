"""Metrics of a set as a whole, such as FID: no image has a value, and only sets of as many images compare."""

from collections.abc import Callable, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

from seesr_pl.evaluation.results import Result
from seesr_pl.evaluation.statistics import Interval
from seesr_pl.files import Record, fingerprint

Files = Sequence[tuple[Path, Path]]
"""Each image's result and reference."""


class SetMetric(NamedTuple):
    """A function from the files of a set to a number, and how to read it; otherwise as `ImageMetric`."""

    name: str
    function: Callable[[Files], float]
    needs_reference: bool
    higher_is_better: bool
    version: str


def with_set_metrics(
    result: Result, references: dict[str, Path], metrics: Sequence[SetMetric], folder: Path
) -> tuple[Result, dict[str, str]]:
    """Add to `result` the value of each metric, without an interval; return with it why others have none.

    A value is kept in `folder`, and used again for the same files and version.
    """
    if not metrics:
        return result, {}
    files = [(path, references[name]) for name, path in result.paths.items()]
    found, reasons = dict(result.intervals), {}
    for metric in metrics:
        record, key = Record(folder / f"{metric.name}.json"), fingerprint(metric.version, *files)
        try:
            if not record.holds(key):
                record.write(key, value=_finite(metric.function(files)), images=len(files))
        except (ValueError, ArithmeticError, RuntimeError, OSError) as error:
            reasons[metric.name] = str(error) or type(error).__name__
            continue
        found[metric.name] = Interval(record.read()["value"], nan, nan, len(files))
    return result._replace(intervals=found), reasons


def size_notes(results: Sequence[Result], metrics: Sequence[SetMetric]) -> list[str]:
    """Say of each metric of how many images it is, and which results it does not compare."""
    notes = []
    for metric in metrics:
        sizes = {result.name: result.intervals[metric.name].n for result in results if metric.name in result.intervals}
        if not sizes:
            continue
        first = next(iter(sizes.values()))
        others = [f"{name} ({count})" for name, count in sizes.items() if count != first]
        told = f", not with {', '.join(others)}" if others else ""
        notes.append(f"{metric.name}: one value of the whole set; it compares with that of {first} images alone{told}.")
    return notes


def _finite(value: float) -> float:
    if not isfinite(value):
        raise ValueError(f"the value is {value}: the set is too small")
    return float(value)
