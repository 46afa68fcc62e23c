"""What a method achieved on a benchmark: scores of each image, means with intervals, and how two methods differ."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seesr_pl.evaluation.statistics import (
    Interval,
    finite_or_none,
    holm,
    metric_intervals,
    paired_interval,
    wilcoxon,
)
from seesr_pl.files import write_whole


class Result(NamedTuple):
    """A method's scores `values[image][metric]`, their means, and for each image its file, photograph and seconds."""

    name: str
    values: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    paths: dict[str, Path]
    groups: dict[str, str]
    seconds: dict[str, float]


class Comparison(NamedTuple):
    """The paired difference of a metric and its p-value (Wilcoxon), adjusted over the metrics compared (Holm)."""

    metric: str
    difference: Interval
    p_value: float


def write_result(folder: str | Path, result: Result, facts: Mapping[str, Any]) -> None:
    """Write `scores.csv`, one row for each image, and `summary.json` into `folder`.

    The summary is `{"metrics": {name: {"mean", "ci95", "n"}}, "method": name, **facts}`; numbers that are not finite
    become null, and a `Path` its text.
    """
    names = list(dict.fromkeys(name for scores in result.values.values() for name in scores))
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["image", *names, "seconds"])
    for image, scores in result.values.items():
        cells = [f"{scores[name]:.6f}" if name in scores else "" for name in names]
        writer.writerow([image, *cells, f"{result.seconds[image]:.3f}"])
    write_whole(Path(folder) / "scores.csv", content.getvalue())
    finite = {name: [finite_or_none(value) for value in each[:3]] for name, each in result.intervals.items()}
    metrics = {
        name: {"mean": mean, "ci95": [low, high], "n": result.intervals[name].n}
        for name, (mean, low, high) in finite.items()
    }
    summary = {"metrics": metrics, "method": result.name, **facts}
    write_whole(Path(folder) / "summary.json", json.dumps(summary, indent=2, default=str) + "\n")


def load_result(folder: str | Path, groups: Mapping[str, str]) -> Result:
    """Read what `write_result` wrote, for the images that `groups` names.

    Raises ValueError if the folder is no evaluation or lacks one of the images.
    """
    path = Path(folder).expanduser()
    for name in ("scores.csv", "summary.json"):
        if not (path / name).is_file():
            raise ValueError(f"compare: {path} has no {name}; give the folder of a finished evaluation")
    with (path / "scores.csv").open(newline="") as file:
        rows = {row.pop("image"): row for row in csv.DictReader(file)}
    missing = sorted(set(groups) - set(rows))
    if missing:
        raise ValueError(f"compare: {path} lacks {len(missing)} of {len(groups)} images: {', '.join(missing[:5])}")
    seconds = {image: float(rows[image].pop("seconds")) for image in groups}
    values = {image: {name: float(text) for name, text in rows[image].items() if text} for image in groups}
    paths = {image: path / "restored" / f"{image}.png" for image in groups}
    method = json.loads((path / "summary.json").read_text())["method"]
    return Result(method, values, metric_intervals(values, groups), paths, dict(groups), seconds)


def compare(result: Result, reference: Result) -> list[Comparison]:
    """Subtract `reference` from `result` for each metric that both have, over the images that both scored."""
    names = [name for name in result.intervals if name in reference.intervals]
    found = []
    for name in names:
        images = [i for i in result.values if name in result.values[i] and name in reference.values.get(i, {})]
        ours, theirs = ([item.values[image][name] for image in images] for item in (result, reference))
        difference = paired_interval(ours, theirs, [result.groups[image] for image in images])
        found.append((name, difference, wilcoxon(ours, theirs)))
    adjusted = holm([p_value for _, _, p_value in found])
    return [Comparison(name, difference, p) for (name, difference, _), p in zip(found, adjusted, strict=True)]
