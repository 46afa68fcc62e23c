"""Test sets as folders of image pairs, matched by name and checked before anything is restored."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seesr_pl.annotations import Count, within_limits
from seesr_pl.evaluation.pairing import ImagesByStem, images_by_stem, reasons, require_fits, require_names
from seesr_pl.files import MissingFile, write_whole
from seesr_pl.imaging.io import read_rgb, write_image
from seesr_pl.limits import MAX_BYTES, read_json, read_rows
from seesr_pl.types import RGB, Batch

Published = Mapping[str, Mapping[str, float | str]]
"""Means printed elsewhere: method -> metric -> value, and the words `source` and `confidence`."""
SEVERITIES = "severity.csv"
"""Beside the folders of a benchmark: how badly each of its images was degraded, in [0, 1], and what did most of it.

A line is `name,severity,kind`; the last may be absent."""
DEGRADATIONS = "degradations.json"
"""Beside the folders of a benchmark: how each of its images was degraded, name -> `degradation.recorded`."""


class Pair(NamedTuple):
    """One test image: `lq` to restore, `hq` to compare with (None where the set has no reference)."""

    name: str
    group: str
    lq: Path
    hq: Path | None


class MadePair(NamedTuple):
    """A pair that was made here: `hq` uint8 (h, w, 3), `lq` a quarter of it on each side, severity in [0, 1].

    `kind` is that of the degradation, "" where it is not known, and `record` that of `degradation.recorded`.
    """

    name: str
    hq: RGB
    lq: RGB
    severity: float
    kind: str = ""
    record: Mapping[str, Any] | None = None


class FolderBenchmark:
    """Image pairs in two folders below `root`, or in one, matched by name as `pairing.ImagesByStem` says.

    `count` is the published number of images; `digest` identifies the published pixels. `group` is a regular
    expression whose first group names the photograph that an image was cut from; images of one photograph are
    resampled together in the statistics. `published` holds means printed elsewhere: method -> metric -> value, and with
    the words `source` and `confidence` where they were read and how sure that is.
    """

    @within_limits
    def __init__(
        self,
        root: str,
        *,
        name: str = "folder",
        lq: str = "lq",
        hq: str | None = "hq",
        scale: Count = 4,
        count: Count | None = None,
        max_images: Count | None = None,
        digest: str | None = None,
        origin: str = "your own images",
        group: str | None = None,
        published: Published | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.name, self.scale, self.count, self.max_images, self.digest = name, scale, count, max_images, digest
        self.lq_folder = self.root / lq
        self.hq_folder = None if hq is None else self.root / hq
        self.has_reference = hq is not None
        self.origin = origin
        self.group = re.compile(group or "(.*)")
        self.published = {method: dict(values) for method, values in (published or {}).items()}

    def pairs(self) -> list[Pair]:
        """Return all pairs in the order of their names, or the first `max_images` of them.

        Raises ValueError that lists the images without a reference, or those that do not fit theirs.
        """
        lq = self._images(self.lq_folder)
        if self.hq_folder == self.lq_folder:
            lq = lq.references(wanted=False)
        if self.count is not None and len(lq.paths) != self.count:
            raise ValueError(
                f"benchmark.root={self.root}: {self.lq_folder.name} holds {len(lq.paths)} images, {self.name} has "
                f"{self.count}; complete it from {self.origin}, or accept it with benchmark.count=null"
                f"{reasons(lq.left_out)}"
            )
        hq = self._references(sorted(lq.paths))
        names = sorted(lq.paths)[: self.max_images]
        pairs = [Pair(name, group_of(name, self.group), lq.paths[name], hq.get(name)) for name in names]
        require_fits({pair.name: (pair.lq, pair.hq) for pair in pairs}, self.scale, "hq")
        return pairs

    def matches_published(self, pairs: Sequence[Pair]) -> bool | None:
        """Tell whether the pixels are the published ones; None where no digest is known or images were left out."""
        if self.digest is None or len(pairs) != self.count:
            return None
        return pixel_digest(pairs) == self.digest

    def published_for(self, pairs: Sequence[Pair]) -> Published:
        """Return the means printed elsewhere, which hold for the whole set; {} for fewer images or other pixels."""
        return self.published if len(pairs) == self.count and self.matches_published(pairs) is not False else {}

    def batches(self, pairs: Iterable[Pair]) -> Iterator[Batch]:
        """Yield batches of one pair each, uint8 (1, h, w, 3); a severity that `severity.csv` does not tell is 0.

        Raises ValueError for a set without reference.
        """
        severities, kinds = self.severities(), self.kinds()
        for index, pair in enumerate(pairs):
            if pair.hq is None:
                raise ValueError(f"{self.name} has no reference images (benchmark.hq=null); tags need them")
            hq, lq = (torch.from_numpy(read_rgb(path).copy())[None] for path in (pair.hq, pair.lq))
            ids = {"sample_id": torch.tensor([index]), "epoch": torch.tensor([0])}
            severity = torch.tensor([severities.get(pair.name, 0.0)])
            kind = [kinds.get(pair.name, "")]
            yield Batch(hq=hq, lq=lq, key=[pair.name], tags=[""], severity=severity, kind=kind, **ids)  # type: ignore[typeddict-item]

    @classmethod
    def missing_files(cls, root: str, *, name: str = "folder", origin: str = "your own images") -> list[MissingFile]:
        """List the root folder if it does not exist."""
        if Path(root).expanduser().is_dir():
            return []
        return [MissingFile(root, f"{origin} ({name})", "benchmark.root=FOLDER")]

    def _images(self, folder: Path) -> ImagesByStem:
        # Below the root itself may lie anything, such as results.
        return images_by_stem(folder, key="benchmark.root", recursive=folder != self.root)

    def _references(self, names: Sequence[str]) -> dict[str, Path]:
        if self.hq_folder is None:
            return {}
        present = self._images(self.hq_folder)
        if self.hq_folder == self.lq_folder:
            present = present.references(wanted=True)
        fix = f"remove them, or accept it with benchmark.count={len(names)}" if self.count is None else ""
        return require_names(names, present, f"{self.hq_folder} beside {self.lq_folder}", fix=fix)

    def severities(self) -> dict[str, float]:
        """Return the severities that `severity.csv` tells, by image; {} without the file."""
        return {row["name"]: float(row["severity"]) for row in self._severity_rows()}

    def kinds(self) -> dict[str, str]:
        """Return what degraded each image most, of those images of which `severity.csv` tells it."""
        return {row["name"]: row["kind"] for row in self._severity_rows() if row.get("kind")}

    def degradations(self) -> dict[str, Mapping[str, Any]]:
        """Return how each image was degraded, for `degradation.degrade_again`; {} where no file tells it."""
        path = self.root / DEGRADATIONS
        return read_json(path, limit=MAX_BYTES) if path.is_file() else {}

    def _severity_rows(self) -> list[dict[str, str]]:
        path = self.root / SEVERITIES
        return read_rows(path, "name", "severity") if path.is_file() else []


def write_pairs(folder: str | Path, pairs: Iterable[MadePair]) -> int:
    """Write `pairs` as `FolderBenchmark` reads them, PNG in `lq` and `hq`, and how they were degraded; count them."""
    severities, records = [], {}
    for pair in pairs:
        for kind, image in (("hq", pair.hq), ("lq", pair.lq)):
            path = Path(folder) / kind / f"{pair.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, image)
        severities.append((pair.name, pair.severity, pair.kind))
        if pair.record is not None:
            records[pair.name] = pair.record
    with (Path(folder) / SEVERITIES).open("w", newline="") as file:
        csv.writer(file).writerows([("name", "severity", "kind"), *severities])
    write_whole(Path(folder) / DEGRADATIONS, json.dumps(records) + "\n")
    return len(severities)


def count_pairs(folder: str | Path) -> int | None:
    """Count the pairs that `write_pairs` wrote into `folder`; None where it did not end, or a file of them is gone."""
    folder = Path(folder)
    if not ((folder / SEVERITIES).is_file() and (folder / DEGRADATIONS).is_file()):
        return None
    names = [row["name"] for row in read_rows(folder / SEVERITIES, "name")]
    is_whole = all((folder / kind / f"{name}.png").is_file() for name in names for kind in ("lq", "hq"))
    return len(names) if is_whole else None


def group_of(name: str, pattern: re.Pattern[str]) -> str:
    """Name the photograph that an image was cut from: the first group of `pattern` in its name, or the name itself."""
    match = pattern.match(name)
    return match.group(1) if match else name


def pixel_digest(pairs: Sequence[Pair]) -> str:
    """Compute SHA-256 over names and decoded pixels of all pairs: the same for any lossless encoding."""
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.lq, pair.hq):
            digest.update(pair.name.encode())
            if path is not None:
                facts = path.stat()
                digest.update(_pixel_hash(path, facts.st_size, facts.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=1 << 16)
def _pixel_hash(path: Path, size: int, time: int) -> bytes:
    """Hash the decoded pixels of a file; with its size and time, so that a file that has changed is read again."""
    return hashlib.sha256(read_rgb(path).tobytes()).digest()
