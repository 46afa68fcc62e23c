"""Colour fixes against the official ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seesr_pl.imaging import color_fix
from seesr_pl.imaging.color_fix import adain, fix_colors, wavelet, wavelet_blur
from seesr_pl.imaging.tensors import to_float

RECORDED = Path(__file__).parents[1] / "golden" / "colorfix.safetensors"
METHODS = {"adain": adain, "wavelet": wavelet}


@pytest.fixture(scope="module")
def values():
    return load_file(RECORDED)


@pytest.mark.parametrize("method", METHODS)
def test_tensors_equal_the_official_ones(values, method):
    result = METHODS[method](values["tensor/content"], values["tensor/style"])
    torch.testing.assert_close(result, values[f"tensor/{method}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dilation", [1, 2, 4, 8, 16])
def test_blur_equals_the_official_one(values, dilation):
    result = wavelet_blur(values["tensor/content"], dilation)
    torch.testing.assert_close(result, values[f"tensor/blur_radius{dilation}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_pictures_equal_the_official_ones(values, method):
    target, source = (to_float(values[f"same_scene/{name}_u8"][None]) for name in ("target", "source"))
    expected = values[f"same_scene/{method}_float_unclamped"]
    torch.testing.assert_close(METHODS[method](target, source), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("band", [8, 33, 256])
@pytest.mark.parametrize("method", METHODS)
def test_eight_bit_result_is_the_official_one_whatever_the_band(values, method, band, monkeypatch):
    monkeypatch.setattr(color_fix, "_BAND", band)
    target, source = (values[f"same_scene/{name}_u8"][None] for name in ("target", "source"))
    assert torch.equal(fix_colors(target, source, method=method)[0], values[f"same_scene/{method}_u8"])


def test_adain_of_a_picture_with_itself_is_itself():
    image = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(adain(image, image), image)


def test_wavelet_of_a_picture_with_itself_is_itself():
    image = torch.rand(2, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(wavelet(image, image), image)


def test_adain_takes_mean_and_deviation_of_the_reference():
    x, reference = torch.rand(1, 3, 64, 64, dtype=torch.float64), 0.3 * torch.rand(1, 3, 32, 32, dtype=torch.float64)
    fixed = adain(x, reference)
    torch.testing.assert_close(fixed.mean((2, 3)), reference.mean((2, 3)))
    torch.testing.assert_close(fixed.std((2, 3)), reference.std((2, 3)), rtol=1e-3, atol=0)


def test_none_changes_nothing():
    image = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(fix_colors(image, 255 - image, method="none"), image)


def test_a_single_pixel_takes_the_reference():
    pixel = torch.full((1, 1, 1, 3), 10, dtype=torch.uint8)
    assert torch.equal(fix_colors(pixel, pixel + 90, method="adain"), pixel + 90)


def test_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        fix_colors(torch.zeros(1, 4, 4, 3).byte(), torch.zeros(1, 4, 5, 3).byte(), method="adain")
