"""Score restored images; what an earlier run computed for the same pixels and version of a metric is kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seesr_pl.evaluation.metrics import ImageMetric, Metrics
from seesr_pl.evaluation.restoring import Restored, Track, silently
from seesr_pl.evaluation.results import Result
from seesr_pl.evaluation.statistics import metric_intervals
from seesr_pl.files import fingerprint, read_lines
from seesr_pl.imaging.io import read_rgb
from seesr_pl.jobs import pool
from seesr_pl.jobs.pool import Advance, Place
from seesr_pl.limits import read_file

_FAULTS = (OSError, ValueError, ArithmeticError, RuntimeError, np.linalg.LinAlgError)


def score_all(
    name: str,
    restored: Sequence[Restored],
    metrics: Sequence[ImageMetric],
    store: Path,
    *,
    build: Callable[..., Metrics] | None = None,
    place: Place = pool.HERE,
    track: Track[Any] = silently,
) -> Result:
    """Score every restored image of the method `name`; means have 95 % intervals, drawn by photograph.

    Values are kept in `store` (JSON lines) and used again for the same pixels and version of a metric, so that a metric
    can be added without computing the others again. `build(device=...)` makes `metrics` in each process of `place`, and
    is picklable, where there are several.
    """
    known = {line["key"]: line["value"] for line in read_lines(store, repair=True)}
    store.parent.mkdir(parents=True, exist_ok=True)
    found = {item.pair.name: _keys(item, metrics) for item in restored}
    keys, reasons = ({image: pair[part] for image, pair in found.items()} for part in (0, 1))
    jobs = [
        _Scoring(item, missing)
        for item in restored
        if (missing := tuple(name for name, key in keys[item.pair.name].items() if key not in known))
    ]
    make: Callable[[str], Callable[[_Scoring, Advance], Any]]
    if build is None or place.alone:
        make, place = lambda device: partial(_score, {metric.name: metric for metric in metrics}), pool.HERE
    else:
        make = partial(_scorer, build)
    scored = pool.run(jobs, make, place=place, advance=lambda amount: None)
    with store.open("a") as lines:
        for _, (image, computed, faults) in zip(track(jobs, "score"), scored, strict=True):
            reasons[image] |= faults
            for metric, value in computed.items():
                known[keys[image][metric]] = value
                lines.write(json.dumps({"image": image, "key": keys[image][metric], "value": value}) + "\n")
            lines.flush()
    values: dict[str, dict[str, float]] = {}
    unscored: dict[str, dict[str, str]] = {}
    for image, named in keys.items():
        computed = {name: known[key] for name, key in named.items() if key in known}
        reasons[image] |= {name: _unusable(value) for name, value in computed.items() if not np.isfinite(value)}
        values[image] = {name: value for name, value in computed.items() if name not in reasons[image]}
        for metric, reason in reasons[image].items():
            unscored.setdefault(metric, {})[image] = reason
    groups = {item.pair.name: item.pair.group for item in restored}
    return Result(
        name,
        values,
        metric_intervals(values, groups),
        {item.pair.name: item.path for item in restored if not item.failure},
        groups,
        {item.pair.name: item.seconds for item in restored if not item.failure},
        unscored,
    )


class _Scoring(NamedTuple):
    """A restored image, and the names of the metrics that it lacks."""

    item: Restored
    metrics: tuple[str, ...]


def _scorer(build: Callable[..., Metrics], device: str) -> Callable[[_Scoring, Advance], Any]:
    return partial(_score, {metric.name: metric for metric in build(device=device).available})


def _score(
    metrics: Mapping[str, ImageMetric], job: _Scoring, advance: Advance
) -> tuple[str, dict[str, float], dict[str, str]]:
    """Return the name of the image, its values by metric, and why the other metrics have none."""
    pair, values, reasons = job.item.pair, dict[str, float](), dict[str, str]()
    images = [read_rgb(path) if path else None for path in (job.item.path, pair.hq)]
    for name in job.metrics:
        metric = metrics[name]
        try:
            values[name] = float(metric.function(*images, *(metric.further(pair) if metric.further else ())))
        except _FAULTS as error:
            reasons[name] = str(error) or type(error).__name__
    return pair.name, values, reasons


def _keys(item: Restored, metrics: Sequence[ImageMetric]) -> tuple[dict[str, str], dict[str, str]]:
    """Return by metric what a value depends on: version, pixels and further facts; and why others have no value."""
    if item.failure:
        return {}, {metric.name: f"not restored: {item.failure}" for metric in metrics}
    pixels = fingerprint(*(read_file(path) for path in (item.path, item.pair.hq) if path is not None))
    keys, reasons = dict[str, str](), dict[str, str]()
    for metric in metrics:
        try:
            further = metric.further(item.pair) if metric.further else ()
            told = [read_file(fact) if isinstance(fact, Path) else fact for fact in further]
            keys[metric.name] = f"{metric.name}/{metric.version}/{pixels}" + (f"/{fingerprint(*told)}" if told else "")
        except _FAULTS as error:
            reasons[metric.name] = str(error) or type(error).__name__
    return keys, reasons


def _unusable(value: float) -> str:
    return "infinite: equal to its reference" if value == np.inf else f"the value is {value}"
