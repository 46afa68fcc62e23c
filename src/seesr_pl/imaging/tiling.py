"""The official tiles: their places, and the weight of each point (pipeline_seesr.py:759-790, 1003-1177)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the starts of the fewest tiles, `tile - overlap` apart, that cover `length`; the last tile ends there.

    Raises ValueError unless 0 <= overlap < tile <= length.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap={overlap} must be at least 0 and below the tile's size {tile}")
    if tile > length:
        raise ValueError(f"tile={tile} must not exceed the length {length}")
    stride = tile - overlap
    count = math.ceil((length - tile) / stride) + 1
    return [*(index * stride for index in range(count - 1)), length - tile]


def tile_grid(height: int, width: int, *, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Return (top, left) of each square tile, row by row; raise ValueError as `tile_starts` does."""
    lefts = tile_starts(width, tile, overlap)
    return [(top, left) for top in tile_starts(height, tile, overlap) for left in lefts]


def gaussian_weights(tile: int) -> Float[Tensor, "tile tile"]:
    """Return the weight of each point of a tile, float64: a Gaussian of variance 0.01 tile^2 on each axis.

    The vertical midpoint is tile / 2, the horizontal (tile - 1) / 2: upstream's asymmetry, kept to reproduce its
    results (pipeline_seesr.py:772-775).
    """
    return torch.outer(_gaussian(tile, tile / 2), _gaussian(tile, (tile - 1) / 2))


def _gaussian(tile: int, midpoint: float) -> Tensor:
    variance = 0.01
    offset = torch.arange(tile, dtype=torch.float64) - midpoint
    return torch.exp(-offset.square() / tile**2 / (2 * variance)) / math.sqrt(2 * math.pi * variance)
