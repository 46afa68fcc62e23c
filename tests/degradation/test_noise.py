"""Noise against the official code with its own draws, and against the laws that it must follow."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden.official.weights import picture
from safetensors.numpy import load_file
from scipy import stats

from seesr_pl.degradation.codec import to_pixels
from seesr_pl.degradation.noise import (
    GRAY_WEIGHTS,
    MAX_OFFSET,
    add_gaussian_noise,
    add_noise,
    add_poisson_noise,
    poisson_peak,
)

RECORDED = Path(__file__).resolve().parents[1] / "golden" / "official" / "images.safetensors"
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


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """Noise of the official code with the draws it took: input, draws and output, (1, c, 24, 20)."""
    return load_file(RECORDED)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """The input of the recorded noise, by the rule of the recordings."""
    return _channels_last(picture("noise/image", (3, 24, 20)))


@pytest.mark.parametrize("case", ["color", "gray"])
def test_gaussian_noise_equals_the_recorded_one(recorded, image, case):
    draws = recorded[f"gaussian/{case}/draw"]
    noisy = add_noise(image, draws if case == "gray" else _channels_last(draws[0]), 60 / 255)
    np.testing.assert_allclose(noisy, _channels_last(recorded[f"gaussian/{case}/noisy"][0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["color", "gray", "coarse"])
def test_poisson_noise_equals_the_recorded_one(recorded, image, case):
    if case == "coarse":
        image = (np.round(np.round(image * 19) / 19 * 255) / 255).astype(np.float32)
    levels = to_pixels(cv2.transform(image, GRAY_WEIGHTS) if case == "gray" else image)
    levels = levels.reshape(24, 20, -1)
    np.testing.assert_array_equal(levels, _channels_last(recorded[f"poisson/{case}/levels"][0]))
    assert poisson_peak(levels) == recorded[f"poisson/{case}/peak"]
    noise = _channels_last(recorded[f"poisson/{case}/counts"][0]) / poisson_peak(levels) - levels / 255
    noisy = add_noise(image, np.ascontiguousarray(noise.squeeze().astype(np.float32)), 2.5)
    np.testing.assert_allclose(noisy, _channels_last(recorded[f"poisson/{case}/noisy"][0]), rtol=0, atol=1e-6)


def bank(kind: str) -> np.random.Generator:
    """The generator of a bank by its rule, which recorded samples depend on: Philox by the hash of its name."""
    digest = hashlib.blake2b(f"str:degradation\x1fstr:{kind} bank".encode(), digest_size=8).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_is_a_slice_of_its_bank(gray):
    draws = bank("normal").standard_normal(2000, dtype=np.float32)
    shape = (10, 12) if gray else (10, 12, 3)
    draws = draws[100 : 100 + np.prod(shape)].reshape(shape)
    expected = FLAT[:10, :12] + 20 / 255 * (draws[..., None] if gray else draws)
    noisy = add_gaussian_noise(FLAT[:10, :12], 20.0, gray=gray, offset=100)
    np.testing.assert_allclose(noisy, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_is_the_quantile_of_its_bank(gray):
    image = np.array([40, 90, 91, 130, 200], np.float32).repeat(24).reshape(10, 12, 1) / 255 * [0.9, 1, 1.1]
    image = image.astype(np.float32)
    levels = to_pixels(image @ np.float32([[0.2989], [0.587], [0.114]]) if gray else image)
    shape = levels.shape[:2] if gray else levels.shape
    levels = levels.reshape(shape)
    uniform = bank("uniform").integers(2048, size=1 << 23, dtype=np.uint16)[7 : 7 + levels.size].reshape(shape)
    peak = poisson_peak(levels)
    counts = stats.poisson.ppf((uniform + 0.5) / 2048, levels / 255 * peak)
    noise = 0.5 * (counts / peak - levels / 255)
    expected = np.clip(image + (noise[..., None] if gray else noise), 0, 1)
    noisy = add_poisson_noise(image, 0.5, gray=gray, offset=7)
    np.testing.assert_allclose(noisy, expected, rtol=0, atol=1e-6)


def test_all_pixels_count_for_the_number_of_levels_not_a_few():
    # Every 31st pixel shows ten levels, the others two hundred.
    pixels = (np.arange(64 * 64 * 3) % 200).astype(np.uint8)
    pixels[::31] = np.arange(len(pixels[::31])) % 10
    assert poisson_peak(pixels.reshape(64, 64, 3)) == 256


@pytest.mark.parametrize("level", [0.02, 0.98])
@pytest.mark.parametrize(("add", "strength"), [(add_gaussian_noise, 60.0), (add_poisson_noise, 3.0)])
def test_noise_stays_in_the_range_of_an_image(add, strength, level):
    noisy = add(np.full((64, 64, 3), level, np.float32), strength, gray=False, offset=0)
    assert noisy.min() >= 0
    assert noisy.max() <= 1


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
