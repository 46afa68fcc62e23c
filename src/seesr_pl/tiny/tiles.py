"""Photographs as shards of tagged tiles, which is what the tiny experiments read."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seesr_pl import keyed
from seesr_pl.data.catalog import ShardSource
from seesr_pl.data.writer import ShardWriter
from seesr_pl.files import MissingFile
from seesr_pl.tiny.photographs import Photograph, Source, Split, photographs
from seesr_pl.tiny.tags import appearance_tags, region_tags

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
    versions: int = 1,
    weight: float = 1.0,
) -> ShardSource:
    """Return the shards of tiles in `folder`; make them from the photographs if the folder does not exist.

    The photographs are those of pip packages, or with `debian_root` those of Debian's. Of the `versions` tiles at each
    place all but the first have other colors. `weight` is the source's in the stream.
    """

    def made() -> Iterator[Tile]:
        for photo in photographs(splits, source=_source(debian_root)):
            yield from tiles(photo, photo.read(debian_root), versions=versions)

    return tile_shards(folder, made, weight=weight)


def _missing_files(
    folder: str, splits: Sequence[Split] = ("train",), debian_root: str | None = None
) -> list[MissingFile]:
    """Return the packages of photographs that `photo_shards` needs and that are not installed."""
    if Path(folder).is_dir():
        return []
    photos = photographs(splits, source=_source(debian_root))
    return [missing for photo in photos for missing in photo.missing_files(debian_root)]


photo_shards.missing_files = _missing_files  # type: ignore[attr-defined]  # a function has no attributes for mypy


def tile_shards(folder: str | Path, made: Callable[[], Iterable[Tile]], *, weight: float = 1.0) -> ShardSource:
    """Return the shards of tiles in `folder`; write those that `made` yields if the folder does not exist.

    Processes that start together each write them; the first one's are kept.
    """
    folder = Path(folder)
    if not folder.is_dir():
        write_tiles(folder, made())
    return ShardSource(str(folder / "*.tar"), weight=weight, name=folder.name)


def write_tiles(folder: Path, found: Iterable[Tile]) -> None:
    """Write tiles as shards into the new `folder`, which appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    try:
        with ShardWriter(unfinished, prefix="photos") as writer:
            for tile in found:
                writer.write(tile.key, _png(tile.image), extension="png", tags=", ".join(tile.tags) or None)
        os.chmod(unfinished, 0o755)
        if not folder.is_dir():
            os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def tiles(photo: Photograph, image: np.ndarray, *, versions: int = 1) -> Iterator[Tile]:
    """Yield the tiles of a photograph and of its half: every 96 pixels, and flush with the far edges.

    From the second version on, a tile has random colors keyed by its name, and the appearance tags of these.
    """
    for halvings in range(2):
        scaled = image
        for _ in range(halvings):
            scaled = cv2.resize(scaled, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        height, width = scaled.shape[:2]
        places = [(top, left) for top in starts(height) for left in starts(width)]
        for top, left in places:
            cut = np.ascontiguousarray(scaled[top : top + TILE, left : left + TILE])
            box = (left / width, top / height, (left + TILE) / width, (top + TILE) / height)
            regions = region_tags(photo.regions, box)
            for version in range(versions):
                key = f"{photo.name}-{halvings}-{top:04d}-{left:04d}" + (f"-{version}" if version else "")
                tile = other_colours(cut, keyed.numpy_generator(0, key, "colours")) if version else cut
                yield Tile(key, tile, [*appearance_tags(tile), *regions])


def other_colours(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return an RGB uint8 image at another saturation, white balance and brightness; structure stays."""
    pixels = image.astype(np.float32)
    gray = (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    pixels = gray + generator.uniform(0, 1.4) * (pixels - gray)
    pixels *= generator.uniform(0.75, 1.25) * generator.uniform(0.8, 1.25, 3)
    return np.clip(pixels + generator.uniform(-15, 15), 0, 255).astype(np.uint8)


def starts(length: int, *, stride: int = 96) -> list[int]:
    """Return where tiles begin along a side of `length` pixels; nowhere if it is shorter than a tile."""
    last = length - TILE
    return sorted({*range(0, last + 1, stride), last}) if last >= 0 else []


def _source(debian_root: str | Path | None) -> Source:
    return "pip" if debian_root is None else "debian"


def _png(image: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
