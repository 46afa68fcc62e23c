"""NIQE: its parts in closed form, its behaviour, and the value published for a real set."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gamma

from seesr_pl.evaluation.niqe import NIQE, asymmetric_gaussian, block_features, halved, rounded_luma
from seesr_pl.imaging.io import read_rgb


@pytest.fixture
def niqe() -> NIQE:
    window = cv2.getGaussianKernel(7, 7 / 6)
    return NIQE(np.zeros((1, 36)), np.eye(36), window @ window.T)


@pytest.mark.parametrize(("alpha", "scale"), [(1.0, 0.7), (2.0, 1.5)])
def test_the_fit_recovers_a_generalised_gaussian(alpha, scale):
    values = stats.gennorm(alpha, scale=scale).rvs(200_000, random_state=0)
    assert asymmetric_gaussian(values) == pytest.approx((alpha, scale, scale), rel=0.03)


def two_sided(alpha: float, left: float, right: float, number: int) -> np.ndarray:
    """Draws with density proportional to exp(-(-x / left)^alpha) below zero and exp(-(x / right)^alpha) above."""
    sizes = np.abs(stats.gennorm(alpha).rvs(number, random_state=1))
    below = np.random.default_rng(1).random(number) < left / (left + right)
    return np.where(below, -left * sizes, right * sizes)


@pytest.mark.parametrize(("alpha", "left", "right"), [(1.0, 0.5, 1.5), (2.0, 2.0, 0.7)])
def test_the_fit_recovers_both_sides_of_an_asymmetric_one(alpha, left, right):
    assert asymmetric_gaussian(two_sided(alpha, left, right, 400_000)) == pytest.approx((alpha, left, right), rel=0.03)


def fit(values: np.ndarray) -> tuple[float, float, float]:
    """The moment equations (Lasmar et al., 2009) solved by root finding: alpha, the scales left and right."""
    below, above = (np.sqrt(np.mean(values[side] ** 2)) for side in (values < 0, values > 0))
    g = below / above
    target = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = brentq(lambda a: gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) - target, 0.2, 10)
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, below * scale, above * scale


def test_features_of_a_block_are_its_fit_and_those_of_the_products_with_four_neighbours():
    # Different correlation along rows, columns and both diagonals, so that no neighbour can stand for another.
    noise = np.random.default_rng(0).normal(size=(48, 48))
    block = noise + 0.8 * np.roll(noise, 1, 1) + 0.5 * np.roll(noise, 1, 0) - 0.6 * np.roll(noise, (1, 1), (0, 1))
    rows, columns = np.mgrid[:48, :48]
    alpha, left, right = fit(block)
    expected = [alpha, (left + right) / 2]
    # The neighbours to the left, above, above to the left and above to the right; the block's ends meet.
    for up, aside in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):
        alpha, left, right = fit(block * block[(rows + up) % 48, (columns + aside) % 48])
        expected += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    np.testing.assert_allclose(block_features(block), expected, rtol=3e-3, atol=3e-3)


def test_halving_is_the_widened_cubic_and_mirrors_the_border():
    # A cubic with a = -0.5 at the distances 0.25, 0.75, 1.25, 1.75, halved: exact fractions of 256.
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    ends = [np.tile(column[:, None], (1, 8)) for column in np.eye(16)]
    matrix = np.stack([halved(plane)[:, 0] for plane in ends], axis=1)
    for row in (2, 5):
        expected = np.zeros(16)
        expected[2 * row - 3 : 2 * row + 5] = weights
        np.testing.assert_allclose(matrix[row], expected, atol=1e-12)
    first = np.zeros(16)
    first[:5] = np.array([111 + 29, 111 - 9, 29 - 3, -9, -3]) / 256
    np.testing.assert_allclose(matrix[0], first, atol=1e-12)
    np.testing.assert_allclose(matrix[-1], first[::-1], atol=1e-12)


def coefficients(plane: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Each level less its local mean, over one more than the local deviation; the border repeated. Written as sums."""
    padded = np.pad(plane, 3, mode="edge")
    places = [(row, column) for row in range(7) for column in range(7)]
    height, width = plane.shape
    near = [padded[row : row + height, column : column + width] for row, column in places]
    mean = sum(window[place] * values for place, values in zip(places, near, strict=True))
    square = sum(window[place] * values**2 for place, values in zip(places, near, strict=True))
    return (plane - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)


def test_niqe_is_the_distance_of_the_blocks_features_from_the_natural_ones(make_image):
    generator = np.random.default_rng(0)
    mean, factor = generator.normal(size=36), generator.normal(size=(36, 36))
    covariance = factor @ factor.T + np.eye(36)
    window = np.outer(*[cv2.getGaussianKernel(7, 7 / 6).ravel()] * 2)
    noise = np.random.default_rng(1).integers(-20, 20, (200, 300, 3))
    image = np.clip(make_image(0, 300)[:200].astype(int) + noise, 0, 255).astype(np.uint8)
    plane = np.round(image[:192, :288].astype(np.float64) @ [0.299, 0.587, 0.114])
    scales = []
    for side, values in ((96, plane), (48, halved(plane))):
        found = coefficients(values, window.astype(np.float32).astype(np.float64))
        places = [(row, column) for row in range(2) for column in range(3)]
        scales.append([block_features(found[r * side :, c * side :][:side, :side]) for r, c in places])
    features = np.concatenate(scales, axis=1)
    spread = (covariance + np.cov(features.T)) / 2
    difference = mean - features.mean(0)
    expected = np.sqrt(difference @ np.linalg.solve(spread, difference))
    assert NIQE(mean, covariance, window)(image) == pytest.approx(expected, rel=1e-6)


def test_the_window_has_single_precision_as_for_the_published_values(niqe):
    window = np.outer(*[cv2.getGaussianKernel(7, 7 / 6).ravel()] * 2)
    assert niqe.window.dtype == np.float64
    np.testing.assert_array_equal(niqe.window, window.astype(np.float32))
    assert (niqe.window != window).any()


def test_a_flat_block_has_the_first_shape_and_no_scales_as_in_the_published_code():
    alpha, left, right = asymmetric_gaussian(np.zeros((8, 8)))
    assert alpha == 0.2
    assert np.isnan([left, right]).all()


def test_an_image_with_a_flat_block_has_a_value(niqe, make_image):
    image = make_image(192, 192)
    image[:96, :96] = 255
    assert np.isfinite(niqe(image))


def test_halving_keeps_a_constant_and_the_middle_of_a_ramp():
    np.testing.assert_allclose(halved(np.full((12, 16), 7.0)), np.full((6, 8), 7.0))
    ramp = np.tile(np.arange(32.0), (12, 1))
    np.testing.assert_allclose(halved(ramp)[:, 4:-4], ramp[:6, 8:-8:2] + 0.5)


def test_what_lies_beyond_the_last_whole_block_does_not_count(niqe, make_image):
    image = make_image(0, 200)
    changed = image.copy()
    changed[192:], changed[:, 192:] = 0, 255
    assert niqe(image) == niqe(changed)


def test_an_image_under_one_block_is_refused(niqe, make_image):
    with pytest.raises(ValueError, match="at least 96 pixels a side, got 64x64"):
        niqe(make_image(0))


def test_an_image_of_one_block_or_of_flat_blocks_is_refused_with_their_number(niqe, make_image):
    with pytest.raises(ValueError, match="at least 2 blocks of 96x96 pixels that are not flat, got 1 of 1"):
        niqe(make_image(0, 100))
    with pytest.raises(ValueError, match="not flat, got 0 of 4"):
        niqe(np.full((192, 192, 3), 90, np.uint8))


@pytest.mark.parametrize("content", [None, {"mean": np.zeros(3)}])
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path, content):
    path = tmp_path / "parameters.npz"
    if content is not None:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=r"niqe_parameters=.*niqe_pris_params.npz of BasicSR"):
        NIQE.from_file(path)


@pytest.mark.slow
def test_the_published_values_of_realsr_are_met_image_by_image(benchmarks):
    path = Path(os.environ.get("SEESR_NIQE_PARAMETERS", benchmarks.parent / "assets" / "niqe_pris_params.npz"))
    if not path.is_file():
        pytest.skip(f"{path} does not exist; set SEESR_NIQE_PARAMETERS to niqe_pris_params.npz")
    niqe = NIQE.from_file(path)
    folder = benchmarks / "realsr"
    with (folder / "osediff_scores.csv").open(newline="") as file:
        published = {row["image"]: float(row["niqe"]) for row in csv.DictReader(file)}
    values = {name: niqe(read_rgb(folder / "results_osediff" / f"{name}.png")) for name in published}
    # By image, as the authors scored them on a GPU; of one image the order of a sum in flat regions decides.
    errors = sorted(abs(values[name] - published[name]) for name in published)
    assert errors[-2] < 1e-3
    assert errors[-1] < 3e-3
    assert np.mean(list(values.values())) == pytest.approx(5.6476, abs=5e-5)


@pytest.mark.parametrize("color", [(166, 144, 117), (129, 21, 93), (3, 3, 3), (255, 255, 255)])
def test_the_luma_is_the_rounded_weighted_sum(color):
    luma = rounded_luma(np.full((2, 2, 3), color, np.uint8))
    assert np.abs(luma - np.dot(color, [0.299, 0.587, 0.114])).max() <= 0.5 + 1e-4
    assert luma.dtype == np.float64
