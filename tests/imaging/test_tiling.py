"""Where tiles lie and what they weigh."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seesr_pl.imaging.tiling import gaussian_weights, tile_grid, tile_starts

RECORDED = Path(__file__).parents[1] / "golden" / "tile_weights.safetensors"


@pytest.mark.parametrize("tile", [8, 16, 96])
def test_weights_equal_the_official_ones(tile):
    expected = load_file(RECORDED)[f"gaussian_weights_{tile}_f64"]
    torch.testing.assert_close(gaussian_weights(tile), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(16, 16, 4), (17, 16, 4), (28, 16, 4), (100, 16, 0), (97, 96, 32)]
)
def test_tiles_cover_everything_and_are_the_fewest(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    covered = {position for start in starts for position in range(start, start + tile)}
    assert covered == set(range(length))
    assert starts[-1] == length - tile
    assert (len(starts) - 1) * (tile - overlap) < length - overlap


def test_tiles_step_by_tile_minus_overlap_and_the_last_moves_back():
    assert tile_starts(32, 16, 4) == [0, 12, 16]


def test_grid_runs_row_by_row():
    assert tile_grid(17, 20, tile=16, overlap=4) == [(0, 0), (0, 4), (1, 0), (1, 4)]


@pytest.mark.parametrize(("tile", "overlap"), [(16, 16), (16, -1), (16, 20)])
def test_an_overlap_that_leaves_no_step_is_refused(tile, overlap):
    with pytest.raises(ValueError, match=f"overlap={overlap}"):
        tile_starts(32, tile, overlap)


def test_a_tile_longer_than_the_picture_is_refused():
    with pytest.raises(ValueError, match="must not exceed"):
        tile_starts(8, 16, 4)


def test_vertical_and_horizontal_midpoints_differ_as_upstream():
    weights = gaussian_weights(8)
    torch.testing.assert_close(weights, weights.flip(1))
    assert not torch.allclose(weights, weights.flip(0))
