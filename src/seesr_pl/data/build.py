"""Build shards from folders and archives of images; a build that was killed continues where it stopped."""

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from seesr_pl.data.inputs import InputFile, InputImage, find_inputs, find_lq, matched_inputs, read_inputs
from seesr_pl.data.prepare import BuildOptions, Prepared, prepare
from seesr_pl.data.shards import INDEX_SUFFIX
from seesr_pl.data.writer import ShardWriter
from seesr_pl.files import LeftOut, fingerprint, read_lines, write_whole

JOURNAL = "build.jsonl"
REPORT = "report.json"
_NO_LIMIT = 2**62
_MAX_WAITING = 1 << 27  # bytes of archived images in memory at once
_COUNTS = ("inputs", "images", "samples", "shards", "bytes_passed", "large")
_COMPLETE = {"complete": True}
"""The journal's last line: from then on nothing in the folder is the build's to remove."""


class Submitted(Protocol):
    """What an executor's `submit` returns: a `Future`, or a job of submitit."""

    def result(self) -> Any:
        """Wait for what was submitted, and return what it returned or raise what it raised."""
        ...

    def cancel(self) -> Any:
        """Drop what has not begun."""
        ...


class Crew(NamedTuple):
    """Who prepares images: an executor's `submit`, how many of its tasks wait at once, and the inputs of a task."""

    submit: Callable[..., Submitted]
    num_waiting: int
    inputs_per_task: int = 1


class BuildProgress(NamedTuple):
    """How far a build is: bytes of the inputs read so far and in all, images written, inputs left out."""

    bytes_passed: int
    bytes_total: int
    num_images: int
    num_skipped: int


@dataclass
class _Tally:
    """Counts of what is done; `open_skipped` and `open_seen` belong to the shard that is being written."""

    inputs: int = 0
    images: int = 0
    samples: int = 0
    shards: int = 0
    bytes_passed: int = 0
    large: int = 0
    is_complete: bool = False
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    open_skipped: list[tuple[str, str]] = field(default_factory=list)
    open_seen: dict[str, str] = field(default_factory=dict)


def build_shards(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    options: BuildOptions,
    num_workers: int = 4,
    crew: Crew | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
) -> dict[str, Any]:
    """Write the images of `sources` (folders, archives, images, patterns) as shards to the folder `out`.

    The images are prepared by `crew`, by default by `num_workers` threads (decoding releases the interpreter lock).

    Return the report, which is also written to `report.json`: it counts images, samples and shards, and lists each
    image that was left out, with the reason. `build.jsonl` records each finished shard.

    Raises ValueError where `out` holds another build or files that no build of its own made, or lies in a source, where
    a source does not exist, and where the sources hold no image.
    """
    out = Path(out).expanduser()
    _check(out, sources, num_workers)
    files, left_out = find_inputs(sources, outside=out.resolve())
    lq = {} if options.lq is None else find_lq(options.lq, outside=out.resolve())
    inputs = _digest([*files, *lq.values()])
    heading = {"sources": [str(source) for source in sources], "options": asdict(options), "inputs": inputs}
    tally = _resume(out, heading)
    images = islice(matched_inputs(read_inputs(files), lq), tally.inputs, None)
    total = sum(file.size for file in files)
    # A shard ends only after a whole input, so that the journal can say at which input to continue.
    with (
        ShardWriter(out, prefix=out.resolve().name, max_samples=_NO_LIMIT, max_bytes=_NO_LIMIT) as writer,
        ThreadPoolExecutor(num_workers) as threads,
    ):
        writer.num_shards = tally.shards
        for prepared in _in_order(images, options, crew or Crew(threads.submit, 2 * num_workers)):
            if options.limit is not None and tally.images >= options.limit:
                break
            _take(prepared, tally, writer)
            if writer.num_open >= options.shard_size or writer.num_bytes >= options.shard_megabytes << 20:
                _finish(writer, tally, out)
            if on_progress:
                on_progress(BuildProgress(tally.bytes_passed, total, tally.images, len(tally.skipped)))
        _finish(writer, tally, out)
    if not tally.is_complete:
        _append(out / JOURNAL, _COMPLETE)
    return _report(out, heading, tally, left_out)


def _check(out: Path, sources: Sequence[str | Path], num_workers: int) -> None:
    if num_workers < 1:
        raise ValueError(f"workers={num_workers} must be at least 1")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, not a folder; last comes the folder OUT for the shards")
    for source in sources:
        folder = Path(source).expanduser()
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{out} lies in the source {source}, and would be read by the next build; give a folder outside"
            )


def _digest(files: Sequence[InputFile]) -> str:
    """Return a digest of the inputs' names and sizes; a build that continues must find the inputs it began with."""
    return f"{len(files)} files, {fingerprint([(file.name, file.size) for file in files])}"


def _take(prepared: Prepared, tally: _Tally, writer: ShardWriter) -> None:
    """Count an input and write its parts, unless it is left out."""
    number = tally.inputs
    tally.inputs += 1
    tally.bytes_passed = prepared.bytes_passed
    first = tally.seen.get(prepared.digest)
    reason = prepared.reason or (f"duplicate of {first}" if first is not None else "")
    if reason:
        tally.skipped.append((prepared.name, reason))
        tally.open_skipped.append((prepared.name, reason))
        return
    tally.seen[prepared.digest] = tally.open_seen[prepared.digest] = prepared.name
    tally.images += 1
    tally.large += prepared.is_large
    for part in prepared.parts:
        key = f"{_key(number, prepared.name)}{part.suffix}"
        writer.write(key, part.image, extension=part.extension, lq=part.lq)
        tally.samples += 1


def _key(number: int, name: str) -> str:
    """Return a unique key that shows where the image came from: the input's number and its name."""
    return f"{number:08d}-" + re.sub(r"[^A-Za-z0-9_-]+", "_", str(Path(name).with_suffix("")))


def _finish(writer: ShardWriter, tally: _Tally, out: Path) -> None:
    """Complete the open shard, then record it in the journal; a shard that is not recorded is written again."""
    if writer.finish_shard() is None and not tally.open_skipped:
        return
    tally.shards = writer.num_shards
    counts = {name: getattr(tally, name) for name in _COUNTS}
    _append(out / JOURNAL, {**counts, "skipped": tally.open_skipped, "seen": tally.open_seen})
    tally.open_skipped, tally.open_seen = [], {}


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _resume(out: Path, heading: dict[str, Any]) -> _Tally:
    """Read the journal in `out`, and remove the shards that it does not record."""
    out.mkdir(parents=True, exist_ok=True)
    journal = out / JOURNAL
    # The shard of a line that was cut short is not recorded.
    lines = read_lines(journal, repair=True)
    if lines and lines[0] != heading:
        raise ValueError(
            f"{out} holds a build of other sources or options, or their files have changed since: it was started with "
            f"{lines[0]}, this build has {heading}; give another folder, or remove this one"
        )
    if not lines:
        _require_own(out)
    tally = _Tally(is_complete=_COMPLETE in lines)
    for line in lines[1 : -1 if tally.is_complete else None]:
        for name in _COUNTS:
            setattr(tally, name, line[name])
        tally.skipped += [(name, reason) for name, reason in line["skipped"]]
        tally.seen.update(line["seen"])
    if not tally.is_complete:
        _remove_unfinished(out, tally.shards)
    if not lines:
        write_whole(journal, json.dumps(heading) + "\n")
    return tally


def _require_own(out: Path) -> None:
    """Raise ValueError where files lie in `out` that no build can have made: it has no journal."""
    foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ValueError(
            f"{out} holds {', '.join(foreign[:3])}{more}, and no {JOURNAL}: no build made this folder; give a new one"
        )


def _remove_unfinished(out: Path, number: int) -> None:
    """Remove what a killed build left of the shard that it was writing, the one with this `number`, and nothing else.

    Raises ValueError where another program put a shard with a later number there.
    """
    prefix = out.resolve().name
    for path in out.glob(f".{escape(f'{prefix}-{number:06d}.tar{INDEX_SUFFIX}'[:40])}.*.part"):
        path.unlink()
    for path in sorted(out.glob(f"{escape(prefix)}-*.tar")):
        match = re.fullmatch(rf"{re.escape(prefix)}-(\d{{6,}})\.tar", path.name)
        if match and int(match[1]) > number:
            raise ValueError(f"{path} is of another origin: this build has got to shard {number}; move it elsewhere")
    for suffix in ("", INDEX_SUFFIX, ".tmp"):
        (out / f"{prefix}-{number:06d}.tar{suffix}").unlink(missing_ok=True)


def _in_order(images: Iterator[InputImage], options: BuildOptions, crew: Crew) -> Iterator[Prepared]:
    """Let the crew prepare images, and yield them in the order given."""
    waiting: deque[tuple[Submitted, int]] = deque()
    try:
        while task := list(islice(images, crew.inputs_per_task)):
            held = sum(image.bytes_held for image in task)
            waiting.append((crew.submit(_prepare_all, task, options), held))
            while len(waiting) > crew.num_waiting or sum(held for _, held in waiting) > _MAX_WAITING:
                yield from waiting.popleft()[0].result()
        while waiting:
            yield from waiting.popleft()[0].result()
    finally:
        for outcome, _ in waiting:
            outcome.cancel()


def _prepare_all(images: Sequence[InputImage], options: BuildOptions) -> list[Prepared]:
    return [prepare(image, options) for image in images]


def _report(out: Path, heading: dict[str, Any], tally: _Tally, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    # First the files that the search left out, then the images that were read and left out.
    skipped = [*((str(path), reason) for path, reason in left_out), *tally.skipped]
    counts = {name: getattr(tally, name) for name in ("images", "samples", "shards", "large")}
    counts["skipped"] = len(skipped)
    report = {**heading, **counts, "left_out": [{"name": name, "reason": reason} for name, reason in skipped]}
    write_whole(out / REPORT, json.dumps(report, indent=2) + "\n")
    return report
