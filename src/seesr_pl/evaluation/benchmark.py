"""Test sets as folders of image pairs, matched by name and checked before anything is restored."""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError

from seesr_pl.files import MissingFile
from seesr_pl.imaging.io import read_rgb
from seesr_pl.types import Batch

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
NUM_NAMED = 5
SEVERITIES = "severity.csv"
"""Beside the folders of a benchmark: how badly each of its images was degraded, `name,severity` a line, in [0, 1]."""


class Pair(NamedTuple):
    """One test image: `lq` to restore, `hq` to compare with (None where the set has no reference)."""

    name: str
    group: str
    lq: Path
    hq: Path | None


class FolderBenchmark:
    """Image pairs in two folders below `root`, matched by file name without extension.

    `count` is the published number of images; `digest` identifies the published pixels. `group` is a regular
    expression whose first group names the photograph that an image was cut from; images of one photograph are
    resampled together in the statistics. `published` holds means printed elsewhere: method -> metric -> value.
    Raises ValueError where the folders are not what they must be.
    """

    def __init__(
        self,
        root: str,
        *,
        name: str = "folder",
        lq: str = "lq",
        hq: str | None = "hq",
        scale: int = 4,
        count: int | None = None,
        max_images: int | None = None,
        digest: str | None = None,
        origin: str = "your own images",
        group: str | None = None,
        published: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.name, self.scale, self.count, self.max_images, self.digest = name, scale, count, max_images, digest
        self.lq_folder = self.root / lq
        self.hq_folder = None if hq is None else self.root / hq
        self.origin = origin
        self.group = re.compile(group or "(.*)")
        self.published = {method: dict(values) for method, values in (published or {}).items()}

    def pairs(self) -> list[Pair]:
        """All pairs in the order of their names, or the first `max_images` of them; sizes are checked."""
        lq = images_by_stem(self.lq_folder, key="benchmark.root")
        if self.count is not None and len(lq) != self.count:
            raise ValueError(
                f"benchmark.root={self.root}: {self.lq_folder.name} holds {len(lq)} images, {self.name} has "
                f"{self.count}; complete it from {self.origin}, or accept it with benchmark.count=null"
            )
        hq = {} if self.hq_folder is None else images_by_stem(self.hq_folder, key="benchmark.root")
        if self.hq_folder is not None:
            require_names(lq, hq, f"{self.hq_folder} lacks images that {self.lq_folder} has")
        names = sorted(lq)[: self.max_images]
        pairs = [Pair(name, group_of(name, self.group), lq[name], hq.get(name)) for name in names]
        for pair in pairs:
            self._check_sizes(pair)
        return pairs

    def matches_published(self, pairs: Sequence[Pair]) -> bool | None:
        """Whether the pixels are the published ones; None where no digest is known or images were left out."""
        if self.digest is None or len(pairs) != self.count:
            return None
        return pixel_digest(pairs) == self.digest

    def published_for(self, pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
        """The means printed elsewhere; none where images were left out, because they hold for the whole set."""
        return self.published if len(pairs) == self.count else {}

    def batches(self, pairs: Iterable[Pair]) -> Iterator[Batch]:
        """Batches of one pair each; the severity is that of `severity.csv`, or 0 where it is not known.

        Raises ValueError for a set without reference.
        """
        severities = self._severities()
        for index, pair in enumerate(pairs):
            if pair.hq is None:
                raise ValueError(f"{self.name} has no reference images (benchmark.hq=null); tags need them")
            hq, lq = (torch.from_numpy(read_rgb(path).copy())[None] for path in (pair.hq, pair.lq))
            ids = {"sample_id": torch.tensor([index]), "epoch": torch.tensor([0])}
            severity = torch.tensor([severities.get(pair.name, 0.0)])
            yield Batch(hq=hq, lq=lq, key=[pair.name], tags=[""], severity=severity, **ids)  # type: ignore[typeddict-item]

    @classmethod
    def missing_files(cls, root: str, *, name: str = "folder", origin: str = "your own images") -> list[MissingFile]:
        """The root folder, where it does not exist."""
        if Path(root).expanduser().is_dir():
            return []
        return [MissingFile(root, f"{origin} ({name})", "benchmark.root=FOLDER")]

    def _severities(self) -> dict[str, float]:
        path = self.root / SEVERITIES
        if not path.is_file():
            return {}
        with path.open(newline="") as file:
            return {row["name"]: float(row["severity"]) for row in csv.DictReader(file)}

    def _check_sizes(self, pair: Pair) -> None:
        if pair.hq is None:
            return
        lq, hq = image_size(pair.lq), image_size(pair.hq)
        if hq != (lq[0] * self.scale, lq[1] * self.scale):
            raise ValueError(
                f"{pair.name}: lq is {lq[0]}x{lq[1]} and hq {hq[0]}x{hq[1]}; hq must be {self.scale} times lq on each "
                f"side ({pair.lq}, {pair.hq})"
            )


def group_of(name: str, pattern: re.Pattern[str]) -> str:
    """The photograph that an image belongs to: the first group of `pattern` in its name, or the name itself."""
    match = pattern.match(name)
    return match.group(1) if match else name


def images_by_stem(folder: Path, *, key: str) -> dict[str, Path]:
    """Image files of `folder` by name without extension; `key` is the config key to name in an error.

    Raises ValueError if the folder does not exist, holds no image, or holds two images of one name.
    """
    if not folder.is_dir():
        beside = (
            sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        )
        hint = (
            f"; {folder.parent} holds {', '.join(beside[:NUM_NAMED]) or 'no folder'}" if folder.parent.is_dir() else ""
        )
        raise ValueError(f"{key}: folder {folder} does not exist{hint}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in EXTENSIONS and path.stem in found:
            raise ValueError(f"{key}: {found[path.stem]} and {path} have the same name; keep one of them")
        if path.suffix.lower() in EXTENSIONS:
            found[path.stem] = path
    if not found:
        raise ValueError(f"{key}: {folder} holds no image ({' '.join(EXTENSIONS)})")
    return found


def require_names(wanted: Mapping[str, object], present: Mapping[str, object], what: str) -> None:
    """Raise ValueError, with `what` and the names, if a name of `wanted` is not in `present`."""
    missing = sorted(set(wanted) - set(present))
    if missing:
        more = f" and {len(missing) - NUM_NAMED} more" if len(missing) > NUM_NAMED else ""
        raise ValueError(f"{what}: {len(missing)} of {len(wanted)} missing: {', '.join(missing[:NUM_NAMED])}{more}")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header. Raises ValueError for a file that is no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace or remove it") from error


def pixel_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over names and decoded pixels of all pairs: the same for any lossless encoding of the same images."""
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.lq, pair.hq):
            digest.update(pair.name.encode())
            if path is not None:
                digest.update(hashlib.sha256(read_rgb(path).tobytes()).digest())
    return digest.hexdigest()
