"""Noise against the official code with its own draws, and against the laws that it must follow."""

import cv2
import numpy as np
import pytest

from seesr_pl.degradation.arrays import to_pixels
from seesr_pl.degradation.noise import (
    GRAY_WEIGHTS,
    MAX_OFFSET,
    add_gaussian_noise,
    add_noise,
    add_poisson_noise,
    poisson_peak,
)

FLAT = np.full((256, 256, 3), 0.4, np.float32)


@pytest.mark.parametrize(("index", "sigma", "gray"), [(0, 10, False), (1, 25, True)])
def test_gaussian_noise_of_the_official_draws_equals_the_official_one(noise_and_jpeg, index, sigma, gray):
    golden = noise_and_jpeg
    draws = golden["gaussian/draw_gray_hw"] if gray else _channels_last(golden["gaussian/draw_color"][index])
    noisy = add_noise(_channels_last(golden["img"][index]), draws, sigma / 255)
    np.testing.assert_allclose(noisy, _channels_last(golden["gaussian/out"][index]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("index", "scale", "gray"), [(0, 0.5, False), (1, 2.0, True)])
def test_poisson_noise_of_the_official_draws_equals_the_official_one(noise_and_jpeg, index, scale, gray):
    golden = noise_and_jpeg
    image = _channels_last(golden["img"][index])
    levels = to_pixels(cv2.transform(image, GRAY_WEIGHTS) if gray else image)
    counts = golden["poisson/draw_gray"][index, 0] if gray else _channels_last(golden["poisson/draw_color"][index])
    noise = (counts / poisson_peak(levels) - levels / 255).astype(np.float32)
    noisy = add_noise(image, noise, scale)
    np.testing.assert_allclose(noisy, _channels_last(golden["poisson/out"][index]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("levels", "peak"), [(1, 1), (2, 2), (3, 4), (128, 128), (129, 256), (256, 256)])
def test_poisson_peak_is_the_number_of_levels_rounded_up_to_a_power_of_two(levels, peak):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels.ravel()[:levels] = np.arange(levels)
    assert poisson_peak(pixels) == peak


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_the_asked_deviation(gray):
    noise = add_gaussian_noise(FLAT, 20, gray=gray, offset=12345) - FLAT
    assert noise.std() == pytest.approx(20 / 255, rel=0.02)
    assert abs(noise.mean()) < 1e-3


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_has_the_deviation_of_shot_noise(gray):
    ramp = np.repeat(np.linspace(0.3, 0.7, 256, dtype=np.float32)[:, None, None], 256, 1).repeat(3, 2)
    peak = poisson_peak(to_pixels(ramp))
    noise = add_poisson_noise(ramp, 0.5, gray=gray, offset=777) - ramp
    assert noise.std() == pytest.approx(0.5 * np.sqrt(0.5 / peak), rel=0.03)
    assert abs(noise.mean()) < 1e-3


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_gray_noise_is_the_same_in_all_channels(add):
    noise = add(FLAT, 2.0, gray=True, offset=0) - FLAT
    np.testing.assert_array_equal(noise[..., 0], noise[..., 2])
    assert np.abs(noise).max() > 0


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_noise_is_a_function_of_its_offset(add):
    first, again, other = (add(FLAT, 2.0, gray=False, offset=offset) for offset in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_image_larger_than_the_bank_still_gets_noise():
    image = np.full((1700, 1700, 3), 0.5, np.float32)
    noise = add_gaussian_noise(image, 10, gray=False, offset=MAX_OFFSET - 1) - image
    assert noise[-100:].std() == pytest.approx(10 / 255, rel=0.02)


def _channels_last(image):
    return np.ascontiguousarray(image.transpose(1, 2, 0))
