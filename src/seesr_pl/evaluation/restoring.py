"""Restore the images of a benchmark by a method: what still holds is kept, and one that fails ends nothing."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2

from seesr_pl.evaluation.benchmark import Pair
from seesr_pl.evaluation.methods import BatchMethod, Images, Method, NotingMethod
from seesr_pl.files import Record, fingerprint, meets_all
from seesr_pl.imaging.io import files_of_equal_size, read_rgb, write_image
from seesr_pl.jobs import pool
from seesr_pl.jobs.pool import Advance, Place
from seesr_pl.limits import read_file
from seesr_pl.types import RGB

T = TypeVar("T")
# OpenCV has an error of its own; torch raises RuntimeError where it has no memory or no method for a shape.
_FAULTS = (OSError, ValueError, ArithmeticError, MemoryError, RuntimeError, cv2.error)
Track = Callable[[Sequence[T], str], Iterable[T]]
"""A function that goes through items and shows under a description how many are done."""


class Restored(NamedTuple):
    """A restored image on disk and the seconds that it took to make it; there is none where `failure` says why."""

    pair: Pair
    path: Path
    seconds: float
    failure: str = ""


def silently(items: Sequence[T], description: str) -> Iterable[T]:
    """Go through `items` without showing progress."""
    return items


def restore(
    build: Callable[[str], Method],
    pairs: Sequence[Pair],
    folder: Path,
    *,
    settings: Mapping[str, Any],
    scale: int = 4,
    place: Place = pool.HERE,
    together: int = 1,
    overwrite: bool = False,
    track: Track[Pair] = silently,
) -> list[Restored]:
    """Restore every pair's `lq` into `folder`/<name>.png; keep what was made of the same lq with the same settings.

    Args:
        build: makes the method on a device; called only if an image is missing.
        pairs: images to restore.
        folder: where images and their records go.
        settings: all that the method's results depend on; a `Path` counts by the files there.
        scale: size of a result over that of its lq.
        place: where; with several processes `build` is picklable, and called in each.
        together: images of equal size that a method of several is given; in this process it says itself.
        overwrite: restore again what is there.
        track: shows progress.

    An image that the method cannot take, or gives in a wrong size, has a `failure` and ends nothing. Raises ValueError
    where no image at all could be restored, OSError where the disk is full.
    """
    done = {} if overwrite else {pair.name: kept(pair, folder, settings) for pair in pairs}
    missing = [pair for pair in pairs if done.get(pair.name) is None]
    if missing:
        if place.alone:
            method = build(place.devices[0])
            build, together = lambda device: method, method.batch_size if isinstance(method, BatchMethod) else 1
        groups = [[missing[row] for row in rows] for rows in files_of_equal_size([p.lq for p in missing], together)]
        make = partial(_worker, build, {pair.name: pair.lq for pair in pairs}, folder, settings, scale)
        restored = chain.from_iterable(pool.run(groups, make, place=place, advance=lambda amount: None))
        for _, made in zip(track(list(chain.from_iterable(groups)), "restore"), restored, strict=True):
            done[made.pair.name] = made
    failed = [item for item in done.values() if item and item.failure]
    if failed and len(failed) == len(pairs):
        raise ValueError(f"none of {len(pairs)} images could be restored; {failed[0].pair.name}: {failed[0].failure}")
    return [item for pair in pairs if (item := done[pair.name]) is not None]


def _worker(
    build: Callable[[str], Method],
    lqs: Mapping[str, Path],
    folder: Path,
    settings: Mapping[str, Any],
    scale: int,
    device: str,
) -> Callable[[Sequence[Pair], Advance], list[Restored]]:
    method = build(device)
    if isinstance(method, Images):
        method.require(lqs, scale=scale)
    return lambda group, advance: _restored(method, group, folder, settings, scale)


def _made_by(settings: Mapping[str, Any], pair: Pair) -> str:
    return fingerprint(settings, read_file(pair.lq))


def kept(pair: Pair, folder: Path, settings: Mapping[str, Any]) -> Restored | None:
    """Return the image of `pair` in `folder` if it was made of the same lq with the same settings; otherwise None."""
    path = folder / f"{pair.name}.png"
    record = Record.beside(path)
    try:
        holds = path.is_file() and record.holds(_made_by(settings, pair))
    except (OSError, ValueError):
        return None  # it is read once more by the restoring, which says what is wrong
    return Restored(pair, path, record.read()["seconds"]) if holds else None


def _restored(
    method: Method, pairs: Sequence[Pair], folder: Path, settings: Mapping[str, Any], scale: int
) -> list[Restored]:
    """Restore images together, and each alone where they are one or where that fails."""
    if len(pairs) > 1:
        try:
            return _restore(method, pairs, folder, settings, scale)
        except _FAULTS as error:
            if meets_all(error):
                raise
    return [_restored_or_failed(method, pair, folder, settings, scale) for pair in pairs]


def _restored_or_failed(method: Method, pair: Pair, folder: Path, settings: Mapping[str, Any], scale: int) -> Restored:
    try:
        return _restore(method, [pair], folder, settings, scale)[0]
    except _FAULTS as error:
        if meets_all(error):
            raise
        path = folder / f"{pair.name}.png"
        for stale in (Record.beside(path).path, path):
            stale.unlink(missing_ok=True)
        return Restored(pair, path, 0.0, str(error).strip() or type(error).__name__)


def _restore(
    method: Method, pairs: Sequence[Pair], folder: Path, settings: Mapping[str, Any], scale: int
) -> list[Restored]:
    keys = [_made_by(settings, pair) for pair in pairs]
    lqs = [read_rgb(pair.lq) for pair in pairs]
    start = time.perf_counter()
    if len(pairs) > 1 and isinstance(method, BatchMethod):
        images = method.restore_all(lqs, names=[pair.name for pair in pairs])
    else:
        images = [method(lq, name=pair.name) for lq, pair in zip(lqs, pairs, strict=True)]
    seconds = (time.perf_counter() - start) / len(pairs)
    for lq, pair, image in zip(lqs, pairs, images, strict=True):
        _check(method, pair, image, lq, scale)
    notes = method.notes if isinstance(method, NotingMethod) else {}
    return [
        _write(pair, folder, image, key, {"seconds": seconds, "note": notes.get(pair.name, "")})
        for pair, image, key in zip(pairs, images, keys, strict=True)
    ]


def _check(method: Method, pair: Pair, image: RGB, lq: RGB, scale: int) -> None:
    expected = (lq.shape[0] * scale, lq.shape[1] * scale, 3)
    if image.shape != expected:
        raise ValueError(
            f"{method.name}: {pair.name} is {image.shape[1]}x{image.shape[0]}, expected {expected[1]}x{expected[0]} "
            f"({scale} times {pair.lq})"
        )


def _write(pair: Pair, folder: Path, image: RGB, key: str, facts: Mapping[str, Any]) -> Restored:
    path = folder / f"{pair.name}.png"
    record = Record.beside(path)
    # The record goes first and comes last: whenever the process dies, no record speaks for another image.
    record.path.unlink(missing_ok=True)
    write_image(path, image)
    record.write(key, **facts)
    return Restored(pair, path, facts["seconds"])
