"""The stages of an evaluation: restore, score, aggregate. Each picks up what an earlier run left, if it still holds."""

import csv
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.methods import Images, Method
from seesr_pl.evaluation.metrics import ImageMetric, score
from seesr_pl.evaluation.statistics import Interval, finite_or_none, metric_intervals
from seesr_pl.imaging.io import read_rgb, write_image

T = TypeVar("T")
Track = Callable[[Sequence[T], str], Iterable[T]]


class Restored(NamedTuple):
    """A restored image on disk and the seconds that it took to make it."""

    pair: Pair
    path: Path
    seconds: float


class Scores(NamedTuple):
    """The values of one image under each metric that could be computed for it."""

    pair: Pair
    seconds: float
    values: dict[str, float]


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
    """Restore every pair's `lq` into `folder`/<name>.png; the method is built only if there is something to do.

    An image that is there is kept if the sidecar beside it names the same settings and the same input; `settings` must
    hold all that the method's results depend on. Raises ValueError for a result of the wrong size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {pair.name: {"settings": fingerprint(settings), "lq": _file_hash(pair.lq)} for pair in pairs}
    done = {} if overwrite else {pair.name: _kept(pair, folder, wanted[pair.name]) for pair in pairs}
    missing = [pair for pair in pairs if done.get(pair.name) is None]
    if missing:
        method = build()
        if isinstance(method, Images):
            method.require(pair.name for pair in missing)
        for pair in track(missing, "restore"):
            done[pair.name] = _restore_one(method, pair, folder, wanted[pair.name], scale)
    return [item for pair in pairs if (item := done[pair.name]) is not None]


def score_all(
    restored: Sequence[Restored], metrics: Sequence[ImageMetric], store: Path, *, track: Track[Restored] = silently
) -> list[Scores]:
    """Score every restored image; values are kept in `store` (JSON lines) and reused for the same pixels and metric.

    So a metric can be added later without computing the others again.
    """
    known = _stored(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a") as lines:
        return [_score_one(item, metrics, known, lines.write) for item in track(restored, "score")]


def aggregate(scores: Sequence[Scores], *, seed: int = 0) -> dict[str, Interval]:
    """Mean and 95 % interval of each metric over the images; images of one photograph are resampled together."""
    values = {item.pair.name: item.values for item in scores}
    return metric_intervals(values, {item.pair.name: item.pair.group for item in scores}, seed=seed)


def write_scores(path: Path, scores: Sequence[Scores]) -> None:
    """Write one row for each image: image, one column a metric, seconds."""
    names = list(dict.fromkeys(name for item in scores for name in item.values))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *names, "seconds"])
        for item in scores:
            values = [f"{item.values[name]:.6f}" if name in item.values else "" for name in names]
            writer.writerow([item.pair.name, *values, f"{item.seconds:.3f}"])


def write_summary(path: Path, intervals: Mapping[str, Interval], facts: Mapping[str, Any]) -> None:
    """Write `{"metrics": {name: {"mean", "ci95", "n"}}, **facts}` as JSON; numbers that are not finite become null."""
    metrics = {
        name: {
            "mean": finite_or_none(value.mean),
            "ci95": [finite_or_none(value.low), finite_or_none(value.high)],
            "n": value.n,
        }
        for name, value in intervals.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metrics": metrics, **facts}, indent=2) + "\n")


def fingerprint(settings: Any) -> str:
    """A hash of nested settings; a string that is an existing file or folder counts with its sizes and times."""
    text = json.dumps(_described(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(pair: Pair, folder: Path, wanted: Mapping[str, str]) -> Restored | None:
    path, sidecar = folder / f"{pair.name}.png", folder / f"{pair.name}.json"
    if not (path.is_file() and sidecar.is_file()):
        return None
    kept = json.loads(sidecar.read_text())
    return Restored(pair, path, kept["seconds"]) if wanted.items() <= kept.items() else None


def _restore_one(method: Method, pair: Pair, folder: Path, wanted: Mapping[str, str], scale: int) -> Restored:
    path, sidecar = folder / f"{pair.name}.png", folder / f"{pair.name}.json"
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
    # The sidecar goes first and comes last: whenever the process dies, no sidecar speaks for another image.
    sidecar.unlink(missing_ok=True)
    write_image(path, image)
    sidecar.write_text(json.dumps({**wanted, "seconds": seconds}))
    return Restored(pair, path, seconds)


def _score_one(
    item: Restored, metrics: Sequence[ImageMetric], known: dict[str, float], keep: Callable[[str], Any]
) -> Scores:
    pixels = _file_hash(item.path) + (_file_hash(item.pair.hq) if item.pair.hq else "")
    keys = {metric.name: f"{metric.name}/{metric.version}/{pixels}" for metric in metrics}
    missing = [metric for metric in metrics if keys[metric.name] not in known]
    if missing:
        hq = read_rgb(item.pair.hq) if item.pair.hq else None
        for name, value in score(read_rgb(item.path), hq, missing).items():
            known[keys[name]] = value
            keep(json.dumps({"image": item.pair.name, "key": keys[name], "value": value}) + "\n")
    return Scores(item.pair, item.seconds, {name: known[key] for name, key in keys.items() if key in known})


def _stored(store: Path) -> dict[str, float]:
    if not store.is_file():
        return {}
    # The last line of a run that was killed may be cut; it ends without a newline.
    complete = [line for line in store.read_text().splitlines(keepends=True) if line.endswith("\n")]
    records = [json.loads(line) for line in complete]
    store.write_text("".join(complete))
    return {record["key"]: record["value"] for record in records}


def _described(settings: Any) -> Any:
    if isinstance(settings, Mapping):
        return {str(key): _described(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [_described(value) for value in settings]
    if isinstance(settings, str) and settings and Path(settings).expanduser().exists():
        return [settings, _stamps(Path(settings).expanduser())]
    return settings


def _stamps(path: Path) -> list[Any]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]
