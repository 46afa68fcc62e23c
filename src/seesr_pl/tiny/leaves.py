"""Dead leaves: images of opaque shapes that cover each other, some of them textured, for training beside photographs.

Their edges and textures have the statistics of photographs (Lee, Mumford and Huang, 2001), and they need no license.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import scipy.fft

from seesr_pl import keyed
from seesr_pl.data.catalog import ShardSource
from seesr_pl.tiny.tiles import TILE, Tile, tile_shards

NUM_TEXTURES = 6


def leaf_shards(folder: str | Path, *, count: int, weight: float = 1.0, seed: int = 0) -> ShardSource:
    """Return the shards of `count` dead-leaves tiles in `folder`, without tags; draw them if it does not exist."""
    return tile_shards(folder, lambda: leaf_tiles(count, seed=seed), weight=weight)


def leaf_tiles(count: int, *, seed: int = 0) -> Iterator[Tile]:
    """Yield `count` tiles; each is a function of `seed` and its number."""
    for number in range(count):
        yield Tile(f"leaves-{number:05d}", dead_leaves(keyed.numpy_generator(seed, number, "leaves"), TILE), [])


def dead_leaves(generator: np.random.Generator, side: int) -> np.ndarray:
    """Draw an image, RGB uint8 (side, side, 3): shapes of one palette, each plain or with one of a few textures."""
    size = 2 * side
    leaves = _leaves(generator, size)
    count = int(leaves.max()) + 1
    colors, kinds = _palette(generator, count), generator.integers(0, NUM_TEXTURES, count)
    textures = np.stack([_texture(generator, size) for _ in range(NUM_TEXTURES)])
    amplitudes = np.exp(generator.normal(generator.uniform(0, 2.5), 1.0, NUM_TEXTURES))
    kind = kinds[leaves]
    relief = np.take_along_axis(textures, kind[None], axis=0)[0] * amplitudes[kind] + _shade(generator, size)
    image = colors[leaves] + relief[..., None] * (1 + generator.normal(0, 0.1, 3))
    image = cv2.resize(np.clip(image, 0, 255), (side, side), interpolation=cv2.INTER_AREA)
    if generator.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), _log_uniform(generator, 0.4, 2))
    return np.clip(image, 0, 255).astype(np.uint8)


def _leaves(generator: np.random.Generator, size: int) -> np.ndarray:
    """Return the number of the leaf on top at each pixel (size, size); radii follow the power law of photographs."""
    count, smallest = int(_log_uniform(generator, 15, 400)), _log_uniform(generator, 4, 40)
    leaves = np.zeros((size, size), dtype=np.int32)
    for number in range(1, count):
        radius = min(smallest * generator.random() ** -0.5, size)
        x, y = (int(place) for place in generator.integers(-20, size + 20, 2))
        axes, angle = (int(radius) + 1, int(radius * generator.uniform(0.25, 1)) + 1), generator.uniform(0, 180)
        if generator.random() < 0.6:
            cv2.ellipse(leaves, (x, y), axes, angle, 0, 360, number, -1)
        else:
            corners = cv2.boxPoints(((x, y), (2.0 * axes[0], 2.0 * axes[1]), angle))
            cv2.fillPoly(leaves, [corners.astype(np.int32)], number)
    return leaves


def _palette(generator: np.random.Generator, count: int) -> np.ndarray:
    base = generator.uniform(20, 235, 3) * generator.uniform(0.3, 1)
    base = base.mean() + (base - base.mean()) * generator.uniform(0, 1.2)
    spread = _log_uniform(generator, 6, 60)
    return base + generator.normal(0, spread, (count, 1)) + generator.normal(0, spread / 2, (count, 3))


def _texture(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw noise (size, size) of unit deviation; its spectrum falls by a random power, in one direction or in all."""
    down, across = np.fft.fftfreq(size)[:, None].astype(np.float32), np.fft.rfftfreq(size)[None].astype(np.float32)
    angle = generator.uniform(0, np.pi)
    stretch = math.exp(generator.uniform(0, 2)) if generator.random() < 0.5 else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    along, beside = cos * across + sin * down, cos * down - sin * across
    frequency = np.hypot(along, beside * stretch) + _log_uniform(generator, 0.004, 0.05)
    spectrum = frequency ** -generator.uniform(0.5, 2.2)
    phases = generator.random(spectrum.shape).astype(np.float32) * np.float32(2 * np.pi)
    noise = scipy.fft.irfft2(spectrum * (np.cos(phases) + 1j * np.sin(phases)), s=(size, size))
    return np.asarray((noise - noise.mean()) / noise.std())


def _shade(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw light (size, size) that falls off along one direction."""
    ramp, angle = np.arange(size) / size, generator.uniform(0, 2 * np.pi)
    return (np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None]) * generator.normal(0, 30)


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))
