"""Restore a benchmark with a method, score what comes out, and compare it with what other methods achieved.

Each step keeps what an earlier run left, where it still holds.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.methods import Images, Method
from seesr_pl.evaluation.metrics import ImageMetric, score
from seesr_pl.evaluation.statistics import (
    Interval,
    finite_or_none,
    holm,
    metric_intervals,
    paired_interval,
    wilcoxon,
)
from seesr_pl.files import Record, fingerprint, write_whole
from seesr_pl.imaging.io import read_rgb, write_image

T = TypeVar("T")
Track = Callable[[Sequence[T], str], Iterable[T]]
"""Goes through items, showing how far it is under a description."""


class Restored(NamedTuple):
    """A restored image on disk and the seconds that it took to make it."""

    pair: Pair
    path: Path
    seconds: float


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


def silently(items: Sequence[T], description: str) -> Iterable[T]:
    """Go through `items` without showing progress."""
    return items


def restore(
    build: Callable[[], Method],
    pairs: Sequence[Pair],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    scale: int = 4,
    overwrite: bool = False,
    track: Track[Pair] = silently,
) -> list[Restored]:
    """Restore every pair's `lq` into `folder`/<name>.png; keep an image whose record names these settings and this lq.

    Args:
        build: makes the method; called only if an image is missing.
        pairs: images to restore.
        folder: where images and their records go.
        settings: all that the method's results depend on; a `Path` counts by the files there.
        scale: size of a result over that of its lq.
        overwrite: restore again what is there.
        track: shows progress.

    Raises ValueError for a result of the wrong size.
    """
    keys = {pair.name: fingerprint(settings, pair.lq.read_bytes()) for pair in pairs}
    done = {} if overwrite else {pair.name: _kept(pair, folder, keys[pair.name]) for pair in pairs}
    missing = [pair for pair in pairs if done.get(pair.name) is None]
    if missing:
        method = build()
        if isinstance(method, Images):
            method.require(pair.name for pair in missing)
        for pair in track(missing, "restore"):
            done[pair.name] = _restore_one(method, pair, folder, keys[pair.name], scale)
    return [item for pair in pairs if (item := done[pair.name]) is not None]


def score_all(
    name: str,
    restored: Sequence[Restored],
    metrics: Sequence[ImageMetric],
    store: Path,
    *,
    track: Track[Restored] = silently,
) -> Result:
    """Score every restored image of the method `name`, and the means with 95 % intervals over photographs.

    Values are kept in `store` (JSON lines) and used again for the same pixels and version of a metric, so that a metric
    can be added without computing the others again.
    """
    known = _stored(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a") as lines:
        values = {item.pair.name: _scores_of(item, metrics, known, lines.write) for item in track(restored, "score")}
    groups = {item.pair.name: item.pair.group for item in restored}
    return Result(
        name,
        values,
        metric_intervals(values, groups),
        {item.pair.name: item.path for item in restored},
        groups,
        {item.pair.name: item.seconds for item in restored},
    )


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
    metrics = {name: _as_json(interval) for name, interval in result.intervals.items()}
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


def _kept(pair: Pair, folder: Path, key: str) -> Restored | None:
    path = folder / f"{pair.name}.png"
    record = Record.beside(path)
    return Restored(pair, path, record.read()["seconds"]) if path.is_file() and record.holds(key) else None


def _restore_one(method: Method, pair: Pair, folder: Path, key: str, scale: int) -> Restored:
    path = folder / f"{pair.name}.png"
    record = Record.beside(path)
    lq = read_rgb(pair.lq)
    start = time.perf_counter()
    image = method(lq, name=pair.name)
    seconds = time.perf_counter() - start
    expected = (lq.shape[0] * scale, lq.shape[1] * scale, 3)
    if image.shape != expected:
        raise ValueError(
            f"{method.name}: {pair.name} is {image.shape[1]}x{image.shape[0]}, expected {expected[1]}x{expected[0]} "
            f"({scale} times {pair.lq})"
        )
    # The record goes first and comes last: whenever the process dies, no record speaks for another image.
    record.path.unlink(missing_ok=True)
    write_image(path, image)
    record.write(key, seconds=seconds)
    return Restored(pair, path, seconds)


def _scores_of(
    item: Restored, metrics: Sequence[ImageMetric], known: dict[str, float], keep: Callable[[str], Any]
) -> dict[str, float]:
    pixels = fingerprint(*(path.read_bytes() for path in (item.path, item.pair.hq) if path is not None))
    keys = {metric.name: f"{metric.name}/{metric.version}/{pixels}" for metric in metrics}
    missing = [metric for metric in metrics if keys[metric.name] not in known]
    if missing:
        hq = read_rgb(item.pair.hq) if item.pair.hq else None
        for name, value in score(read_rgb(item.path), hq, missing).items():
            known[keys[name]] = value
            keep(json.dumps({"image": item.pair.name, "key": keys[name], "value": value}) + "\n")
    return {name: known[key] for name, key in keys.items() if key in known}


def _stored(store: Path) -> dict[str, float]:
    if not store.is_file():
        return {}
    # The last line of a run that was killed may be cut; it ends without a newline.
    complete = [line for line in store.read_text().splitlines(keepends=True) if line.endswith("\n")]
    records = [json.loads(line) for line in complete]
    write_whole(store, "".join(complete))
    return {record["key"]: record["value"] for record in records}


def _as_json(interval: Interval) -> dict[str, Any]:
    low, high = finite_or_none(interval.low), finite_or_none(interval.high)
    return {"mean": finite_or_none(interval.mean), "ci95": [low, high], "n": interval.n}
