"""Photographs as shards of tagged tiles, which is what the tiny experiments read."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seesr_pl.data.photo_tags import appearance_tags, region_tags
from seesr_pl.data.photographs import Photograph, Source, Split, photographs
from seesr_pl.data.sources import ShardSource
from seesr_pl.data.writer import ShardWriter
from seesr_pl.types import MissingFile

TILE = 128


class Tile(NamedTuple):
    """A square of a photograph, RGB uint8 (128, 128, 3), and its tags."""

    key: str
    image: np.ndarray
    tags: list[str]


def photo_shards(
    folder: str | Path,
    *,
    splits: Sequence[Split] = ("train",),
    debian_root: str | Path | None = None,
    weight: float = 1.0,
) -> ShardSource:
    """The shards of tiles in `folder`, made from the photographs first if the folder does not exist.

    They are the photographs of pip packages, or with `debian_root` those of Debian's. Processes that start together
    each make them; the first one's are kept.
    """
    folder = Path(folder)
    if not folder.is_dir():
        write_tiles(folder, photographs(splits, source=_source(debian_root)), debian_root=debian_root)
    return ShardSource(str(folder / "*.tar"), weight=weight, name=folder.name)


def _missing_files(
    folder: str, splits: Sequence[Split] = ("train",), debian_root: str | None = None
) -> list[MissingFile]:
    """The photographs that `photo_shards` would have to read and cannot."""
    if Path(folder).is_dir():
        return []
    photos = photographs(splits, source=_source(debian_root))
    return [missing for photo in photos for missing in photo.missing_files(debian_root)]


photo_shards.missing_files = _missing_files  # type: ignore[attr-defined]


def write_tiles(folder: Path, photos: Sequence[Photograph], *, debian_root: str | Path | None = None) -> None:
    """Write the tiles of `photos` as shards into the new `folder`, which appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        with ShardWriter(unfinished, prefix="photos") as writer:
            for photo in photos:
                for tile in tiles(photo, photo.read(debian_root)):
                    writer.write(tile.key, _png(tile.image), extension="png", tags=", ".join(tile.tags) or None)
        os.chmod(unfinished, 0o755)
        if not folder.is_dir():
            os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def tiles(photo: Photograph, image: np.ndarray) -> Iterator[Tile]:
    """The tiles of a photograph and of its half: every 96 pixels, and flush with the far edges."""
    for halvings in range(2):
        picture = image
        for _ in range(halvings):
            picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        height, width = picture.shape[:2]
        for top in starts(height):
            for left in starts(width):
                tile = np.ascontiguousarray(picture[top : top + TILE, left : left + TILE])
                box = (left / width, top / height, (left + TILE) / width, (top + TILE) / height)
                tags = [*appearance_tags(tile), *region_tags(photo.regions, box)]
                yield Tile(f"{photo.name}-{halvings}-{top:04d}-{left:04d}", tile, tags)


def starts(length: int, *, stride: int = 96) -> list[int]:
    """Where tiles begin along a side of `length` pixels; none where it is shorter than a tile."""
    last = length - TILE
    return sorted({*range(0, last + 1, stride), last}) if last >= 0 else []


def _source(debian_root: str | Path | None) -> Source:
    return "pip" if debian_root is None else "debian"


def _png(image: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
