"""What a method achieved on a benchmark: scores of each image, means with intervals, and how two methods differ."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from math import nan
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from seesr_pl.evaluation.statistics import (
    SIGNIFICANCE,
    Interval,
    finite_or_none,
    holm,
    metric_intervals,
    paired_interval,
    sign_flip_test,
)
from seesr_pl.files import write_whole
from seesr_pl.limits import read_json, read_rows


class Result(NamedTuple):
    """A method's scores `values[image][metric]`, their means, and for each image its file, photograph and seconds.

    An image that was not restored has neither file nor seconds.
    `unscored[metric][image]` says why an image has no finite value and does not count in the mean.
    """

    name: str
    values: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    paths: dict[str, Path]
    groups: dict[str, str]
    seconds: dict[str, float]
    unscored: Mapping[str, Mapping[str, str]] = MappingProxyType({})

    def gaps(self) -> list[str]:
        """Say of each metric that some images have no value of, which and why."""
        lines, count = [], len(self.values)
        for metric, reasons in self.unscored.items():
            image, reason = next(iter(reasons.items()))
            more = f" and {len(reasons) - 1} more (summary.json)" if len(reasons) > 1 else ""
            lines.append(f"{metric}: {count - len(reasons)} of {count} images, without {image} ({reason}){more}.")
        return lines


class Comparison(NamedTuple):
    """The paired difference of a metric to the method `reference`, over `num_groups` photographs.

    The p-value is that of sign flips of whole photographs, adjusted over all metrics and methods compared (Holm).
    """

    metric: str
    reference: str
    difference: Interval
    num_groups: int
    p_value: float

    def sentence(self, name: str) -> str:
        """Say in words what the comparison of the method `name` shows."""
        _, low, high, _ = self.difference
        if 2 ** (1 - self.num_groups) > SIGNIFICANCE:
            few = "photograph is" if self.num_groups == 1 else "photographs are"
            return (
                f"{self.metric}: {self.num_groups} independent {few} too few to tell {name} from "
                f"{self.reference}; no test of so few can reach p < {SIGNIFICANCE}."
            )
        if not (low > 0 or high < 0):
            return f"{self.metric}: no difference between {name} and {self.reference} is shown; the interval holds 0."
        if self.p_value >= SIGNIFICANCE:
            return (
                f"{self.metric}: no difference between {name} and {self.reference} is shown; the interval leaves "
                f"out 0, but of several comparisons one does so by chance (adjusted p = {self.p_value:.2g})."
            )
        direction = "higher" if low > 0 else "lower"
        amount, bounds = f"{abs(self.difference.mean):.4g}", sorted((abs(low), abs(high)))
        return (
            f"{self.metric}: {name} is {direction} than {self.reference} by {amount} "
            f"({bounds[0]:.4g} to {bounds[1]:.4g}, p = {self.p_value:.2g})."
        )


def distinct_name(name: str, folder: str | Path, taken: Collection[str]) -> str:
    """Return the name of the method of the evaluation in `folder`, with the folder's where another has it already."""
    return f"{name} ({Path(folder).name})" if name in taken else name


def write_result(
    folder: str | Path, result: Result, facts: Mapping[str, Any], comparisons: Sequence[Comparison] = ()
) -> None:
    """Write `scores.csv`, one row for each image, and `summary.json` into `folder`; and `comparisons.csv`.

    The summary is `{"metrics": {name: {"mean", "ci95", "n"}}, "method", "unscored": {metric: {image: reason}},
    "comparisons": [...], "seconds": {image: seconds}, **facts}`; numbers that are not finite become null, and a `Path`
    its text. Equal images give an equal `scores.csv`, byte by byte.
    """
    names = list(dict.fromkeys(name for scores in result.values.values() for name in scores))
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["image", *names])
    for image, scores in result.values.items():
        writer.writerow([image, *(f"{scores[name]:.6f}" if name in scores else "" for name in names)])
    write_whole(Path(folder) / "scores.csv", content.getvalue())
    finite = {name: [finite_or_none(value) for value in each[:3]] for name, each in result.intervals.items()}
    metrics = {
        name: {"mean": mean, "ci95": [low, high], "n": result.intervals[name].n}
        for name, (mean, low, high) in finite.items()
    }
    compared = [_in_row(comparison, result.name) for comparison in comparisons]
    if compared:
        write_whole(Path(folder) / "comparisons.csv", csv_text(compared))
    parts = {"metrics": metrics, "method": result.name, "unscored": dict(result.unscored), "comparisons": compared}
    parts["seconds"] = {image: round(seconds, 6) for image, seconds in result.seconds.items()}
    summary = {**parts, **facts}
    write_whole(Path(folder) / "summary.json", json.dumps(summary, indent=2, default=str) + "\n")


def load_result(folder: str | Path, groups: Mapping[str, str], *, pixels: str | None = None) -> Result:
    """Read what `write_result` wrote, for the images that `groups` names.

    Raises ValueError if the folder is no evaluation, lacks one of the images, or has as many and was scored against
    other reference `pixels`.
    """
    path = Path(folder).expanduser()
    for name in ("scores.csv", "summary.json"):
        if not (path / name).is_file():
            raise ValueError(f"compare: {path} has no {name}; give the folder of a finished evaluation")
    rows = {row.pop("image"): row for row in read_rows(path / "scores.csv", "image")}
    missing = sorted(set(groups) - set(rows))
    if missing:
        raise ValueError(f"compare: {path} lacks {len(missing)} of {len(groups)} images: {', '.join(missing[:5])}")
    values = {image: {name: float(text) for name, text in rows[image].items() if text} for image in groups}
    summary = read_json(path / "summary.json", "method", "seconds")
    seconds = {image: summary["seconds"][image] for image in groups if image in summary["seconds"]}
    paths = {image: path / "restored" / f"{image}.png" for image in seconds}
    theirs = summary.get("reference_pixels")
    if pixels and theirs and len(rows) == len(groups) and pixels != theirs:
        raise ValueError(f"compare: {path} was scored against other reference images than these; run it again")
    unscored = {
        metric: {image: reason for image, reason in reasons.items() if image in groups}
        for metric, reasons in summary.get("unscored", {}).items()
    }
    gaps = {metric: reasons for metric, reasons in unscored.items() if reasons}
    intervals = metric_intervals(values, groups)
    if len(rows) == len(groups):
        # Metrics of the whole set have a value of no part of it.
        others = {name: told for name, told in summary["metrics"].items() if name not in intervals}
        intervals |= {name: Interval(told["mean"], nan, nan, told["n"]) for name, told in others.items()}
    return Result(summary["method"], values, intervals, paths, dict(groups), seconds, gaps)


def compare(result: Result, references: Sequence[Result]) -> list[Comparison]:
    """Subtract each of `references` from `result`, for each metric that both have, over the images that both scored."""
    found = []
    for reference in references:
        for name in (name for name in result.intervals if name in reference.intervals):
            images = [i for i in result.values if name in result.values[i] and name in reference.values.get(i, {})]
            if not images:  # a metric of the set
                continue
            ours, theirs = ([item.values[image][name] for image in images] for item in (result, reference))
            groups = [result.groups[image] for image in images]
            difference, p_value = paired_interval(ours, theirs, groups), sign_flip_test(ours, theirs, groups)
            found.append(Comparison(name, reference.name, difference, len(set(groups)), p_value))
    adjusted = holm([comparison.p_value for comparison in found])
    return [comparison._replace(p_value=p) for comparison, p in zip(found, adjusted, strict=True)]


def _in_row(comparison: Comparison, name: str) -> dict[str, Any]:
    mean, low, high = map(finite_or_none, comparison.difference[:3])
    return {
        "metric": comparison.metric,
        "reference": comparison.reference,
        "difference": mean,
        "low": low,
        "high": high,
        "images": comparison.difference.n,
        "photographs": comparison.num_groups,
        "p": comparison.p_value,
        "in_words": comparison.sentence(name),
    }


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return `rows` as CSV below a header; the columns are those of the first row, unless they are named."""
    content = io.StringIO()
    writer = csv.DictWriter(content, columns or list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()
