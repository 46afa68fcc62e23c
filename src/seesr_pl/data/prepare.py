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
from seesr_pl.data.pairs import matched
from seesr_pl.limits import read_file

_WHOLE_CHROMA = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_LOSSLESS_WEBP = 101
# Decoding takes up to a dozen bytes a pixel, so that of large images threads decode one at a time.
_LARGE_PIXELS = 1 << 24
_ONE_LARGE = threading.Lock()
SLOW_PIXELS = 4_000_000
"""An image of more pixels is called large: each crop of it decodes all of it, or of a JPEG all of its bytes."""


@dataclass(frozen=True)
class BuildOptions:
    """How a build stores its images; raises ValueError where a value is out of range.

    `shard_size`: samples per shard; a shard is finished early at `shard_megabytes` (MiB).
    `min_side`: leave out images whose shorter side has fewer pixels.
    `tile`: cut an image into a grid of equal tiles of at least `tile` pixels a side, if two fit; 0 keeps it whole.
    `max_side`: shrink an image whose longer side has more pixels; 0 leaves it. Not with `lq`.
    `lq`: folder of the LQ images, each under its HQ image's name; an image without one is left out.
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
    max_side: int = 0
    lq: str | None = None

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.shard_megabytes < 1:
            raise ValueError(f"shard_size={self.shard_size}, shard_megabytes={self.shard_megabytes} must be at least 1")
        if self.max_side < 0 or (self.max_side and self.lq is not None):
            raise ValueError(f"max_side={self.max_side} must be 0 or more, and 0 with lq: pairs keep their scale")
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
    lq: bytes | None = None


class Prepared(NamedTuple):
    """An input's parts, or the reason why it is left out; `digest` is a hash of its bytes, `is_large` of its pixels."""

    name: str
    bytes_passed: int
    digest: str
    parts: list[Part]
    reason: str
    is_large: bool = False


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
    lq = None if options.lq is None else _read_lq(image, pixels, options.lq)
    height, width = pixels.shape[:2]
    if min(height, width) < options.min_side:
        return Prepared(image.name, image.bytes_passed, "", [], f"too small: {width}x{height}")
    digest = hashlib.blake2b(data + (lq.data if lq else b""), digest_size=16).hexdigest()
    if options.max_side and max(height, width) > options.max_side:
        data, pixels = b"", _shrunk(pixels, options.max_side)
    parts = _parts(data, pixels, options, lq)
    is_large = len(parts) == 1 and pixels.shape[0] * pixels.shape[1] > SLOW_PIXELS
    return Prepared(image.name, image.bytes_passed, digest, parts, "", is_large)


class _LQ(NamedTuple):
    data: bytes
    pixels: np.ndarray
    scale: int

    def whole(self) -> bytes:
        return self.data if image_format(self.data) else encode_rgb(self.pixels, "png", 100)


def _read_lq(image: InputImage, hq: np.ndarray, folder: str) -> _LQ:
    if image.lq is None:
        raise ValueError(f"no image of this name in {folder}")
    data = read_file(image.lq)
    pixels = decode_rgb(data)
    scale = hq.shape[0] // pixels.shape[0]
    try:
        matched(hq, pixels, max(scale, 1))
    except ValueError as error:
        raise ValueError(f"{image.lq}: {error}") from error
    return _LQ(data, pixels, scale)


def _parts(data: bytes, pixels: np.ndarray, options: BuildOptions, lq: _LQ | None) -> list[Part]:
    scale = lq.scale if lq else 1
    tiles = _tiles(pixels, options.tile, scale) if options.tile else {}
    extension = options.encode or "png"
    if len(tiles) > 1:
        lq_tiles = _tiles(lq.pixels, -(-options.tile // scale), 1) if lq else {}
        return [
            Part(
                name,
                encode_rgb(tile, extension, options.quality),
                extension,
                encode_rgb(lq_tiles[name], "png", 100) if lq else None,
            )
            for name, tile in tiles.items()
        ]
    own = image_format(data)
    whole = lq.whole() if lq else None
    if options.encode is None and own:
        return [Part("", data, own, whole)]
    return [Part("", encode_rgb(pixels, extension, options.quality), extension, whole)]


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    factor = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * factor)) for length in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _tiles(pixels: np.ndarray, side: int, scale: int) -> dict[str, np.ndarray]:
    """Cut the image into a grid of equal tiles, no side below `side`, each named `_ROW_COLUMN`.

    Tiles begin at multiples of `scale`, and so where those of the LQ image do.
    """
    height, width = (length // scale for length in pixels.shape[:2])
    side = -(-side // scale)
    rows = np.linspace(0, height, max(1, height // side) + 1).astype(int) * scale
    columns = np.linspace(0, width, max(1, width // side) + 1).astype(int) * scale
    return {
        f"_{row}_{column}": pixels[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        for row in range(len(rows) - 1)
        for column in range(len(columns) - 1)
    }
