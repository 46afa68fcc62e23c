"""Prepare one input image for a shard: keep its bytes, encode it anew, cut it into tiles, or leave it out."""

import hashlib
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from seesr_pl.data.decode import decode_rgb, image_format, image_size
from seesr_pl.data.inputs import InputImage

_WHOLE_CHROMA = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_LOSSLESS_WEBP = 101
# Decoding takes up to a dozen bytes a pixel, so that of large images threads decode one at a time.
_LARGE_PIXELS = 1 << 24
_ONE_LARGE = threading.Lock()


@dataclass(frozen=True)
class BuildOptions:
    """How a build stores its images; raises ValueError where a value is out of range.

    `shard_size`: samples per shard; a shard is finished early at `shard_megabytes` (MiB).
    `min_side`: leave out images whose shorter side has fewer pixels.
    `tile`: cut an image into a grid of equal tiles of at least `tile` pixels a side, if two fit; 0 keeps it whole.
    `limit`: stop after this many images; None takes all.
    `encode`: encode every image again, at `quality` 1 to 100 (JPEG without chroma subsampling); None keeps the bytes of
    jpg, png and webp files, and encodes tiles and other formats as PNG.
    """

    shard_size: int = 1000
    shard_megabytes: int = 1024
    min_side: int = 0
    tile: int = 0
    limit: int | None = None
    encode: Literal["jpg", "png", "webp"] | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.shard_megabytes < 1:
            raise ValueError(f"shard_size={self.shard_size}, shard_megabytes={self.shard_megabytes} must be at least 1")
        if self.tile < 0 or self.min_side < 0 or not 1 <= self.quality <= 100:
            raise ValueError(
                f"tile={self.tile}, min_side={self.min_side} must be 0 or more, quality={self.quality} 1..100"
            )
        if self.encode not in (None, "jpg", "png", "webp"):
            raise ValueError(f"encode={self.encode!r} must be jpg, png or webp")


class Part(NamedTuple):
    """An image or tile for a shard: the suffix of its key, its encoded bytes, its extension."""

    suffix: str
    image: bytes
    extension: str


class Prepared(NamedTuple):
    """An input's parts, or the reason why it is left out; `digest` is a hash of its bytes."""

    name: str
    bytes_passed: int
    digest: str
    parts: list[Part]
    reason: str


def prepare(image: InputImage, options: BuildOptions) -> Prepared:
    """Read an input, decode it in full so that no damaged file enters a shard, and encode its parts where needed."""
    try:
        data = image.read()
        width, height = image_size(data)
        with _ONE_LARGE if width * height > _LARGE_PIXELS else nullcontext():
            return _prepared(image, data, options)
    except (OSError, ValueError) as error:
        return Prepared(image.name, image.bytes_passed, "", [], f"unreadable: {error}")


def encode_rgb(pixels: np.ndarray, extension: str, quality: int) -> bytes:
    """Encode uint8 RGB HxWx3 as jpg (no chroma subsampling), png or webp (quality 100: lossless)."""
    parameters: dict[str, list[int]] = {
        "jpg": [cv2.IMWRITE_JPEG_QUALITY, quality, *_WHOLE_CHROMA],
        "png": [],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS_WEBP if quality == 100 else quality],
    }
    return cv2.imencode(f".{extension}", pixels[..., ::-1], parameters[extension])[1].tobytes()


def _prepared(image: InputImage, data: bytes, options: BuildOptions) -> Prepared:
    pixels = decode_rgb(data)
    height, width = pixels.shape[:2]
    if min(height, width) < options.min_side:
        return Prepared(image.name, image.bytes_passed, "", [], f"too small: {width}x{height}")
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Prepared(image.name, image.bytes_passed, digest, _parts(data, pixels, options), "")


def _parts(data: bytes, pixels: np.ndarray, options: BuildOptions) -> list[Part]:
    tiles = _tiles(pixels, options.tile) if options.tile else {}
    if len(tiles) > 1:
        extension = options.encode or "png"
        return [Part(name, encode_rgb(tile, extension, options.quality), extension) for name, tile in tiles.items()]
    own = image_format(data)
    if options.encode is None and own:
        return [Part("", data, own)]
    extension = options.encode or "png"
    return [Part("", encode_rgb(pixels, extension, options.quality), extension)]


def _tiles(pixels: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Cut the image into a grid of equal tiles, no side below `side`, each named `_ROW_COLUMN`."""
    height, width = pixels.shape[:2]
    rows = np.linspace(0, height, max(1, height // side) + 1).astype(int)
    columns = np.linspace(0, width, max(1, width // side) + 1).astype(int)
    return {
        f"_{row}_{column}": pixels[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        for row in range(len(rows) - 1)
        for column in range(len(columns) - 1)
    }
