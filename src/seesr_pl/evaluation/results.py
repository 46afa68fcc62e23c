"""What one method achieved on one benchmark, and how it compares with another, image by image."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seesr_pl.evaluation.stages import Restored, Scores
from seesr_pl.evaluation.statistics import Interval, holm, metric_intervals, paired_interval, wilcoxon


class Result(NamedTuple):
    """A method's images and scores: `values[image][metric]`, `paths[image]`, `groups[image]`."""

    name: str
    values: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    paths: dict[str, Path]
    groups: dict[str, str]


class Comparison(NamedTuple):
    """The paired difference of a metric and its p-value (Wilcoxon), adjusted over the metrics compared (Holm)."""

    metric: str
    difference: Interval
    p_value: float


def result(
    name: str, restored: Sequence[Restored], scores: Sequence[Scores], intervals: Mapping[str, Interval]
) -> Result:
    """Gather what the stages made of one method."""
    return Result(
        name,
        {item.pair.name: item.values for item in scores},
        dict(intervals),
        {item.pair.name: item.path for item in restored},
        {item.pair.name: item.pair.group for item in scores},
    )


def load_result(folder: str | Path, groups: Mapping[str, str]) -> Result:
    """Read back an evaluation's folder, for the images that `groups` names.

    Raises ValueError if the folder is no evaluation or lacks one of the images.
    """
    path = Path(folder).expanduser()
    for name in ("scores.csv", "summary.json"):
        if not (path / name).is_file():
            raise ValueError(f"compare: {path} has no {name}; give the folder of a finished evaluation")
    with (path / "scores.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    missing = sorted(set(groups) - set(rows))
    if missing:
        raise ValueError(f"compare: {path} lacks {len(missing)} of {len(groups)} images: {', '.join(missing[:5])}")
    values = {image: _numbers(rows[image]) for image in groups}
    intervals = metric_intervals(values, groups)
    paths = {image: path / "restored" / f"{image}.png" for image in groups}
    method = json.loads((path / "summary.json").read_text())["method"]
    return Result(method, values, intervals, paths, dict(groups))


def compare(result: Result, reference: Result) -> list[Comparison]:
    """`result` minus `reference` for each metric that both have, over the images that both scored."""
    names = [name for name in result.intervals if name in reference.intervals]
    found = []
    for name in names:
        images = [i for i in result.values if name in result.values[i] and name in reference.values.get(i, {})]
        ours, theirs = ([item.values[image][name] for image in images] for item in (result, reference))
        difference = paired_interval(ours, theirs, [result.groups[image] for image in images])
        found.append((name, difference, wilcoxon(ours, theirs)))
    adjusted = holm([p_value for _, _, p_value in found])
    return [Comparison(name, difference, p) for (name, difference, _), p in zip(found, adjusted, strict=True)]


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(text) for name, text in row.items() if name not in ("image", "seconds") and text}
