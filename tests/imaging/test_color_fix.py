"""Colour fixes against the official ones."""

from pathlib import Path

import pytest
import torch
from golden.official.weights import picture as by_rule
from safetensors.torch import load_file

from seesr_pl.imaging import color_fix
from seesr_pl.imaging.color_fix import adain, fix_colors, wavelet, wavelet_blur
from seesr_pl.imaging.tensors import to_float

GOLDEN = Path(__file__).parents[1] / "golden"
METHODS = {"adain": adain, "wavelet": wavelet}


@pytest.fixture(scope="module")
def values():
    return load_file(GOLDEN / "colorfix.safetensors")


@pytest.fixture(scope="module")
def small():
    """The recorded colour fixes of `golden/official`."""
    return load_file(GOLDEN / "official" / "images.safetensors")


def image(name: str, *size: int) -> torch.Tensor:
    """The recorded fix's input (1, 3, h, w), by the rule of the recordings."""
    return torch.from_numpy(by_rule(f"colors/{name}", (1, 3, *size)))


@pytest.fixture(scope="module")
def restored():
    return image("restored", 32, 32)


@pytest.fixture(scope="module")
def darker():
    """Low in contrast and bright, in whole levels."""
    return torch.round((image("reference", 32, 32) * 0.6 + 0.31) * 255) / 255


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


@pytest.mark.parametrize("method", METHODS)
def test_fixes_equal_the_official_ones(small, restored, darker, method):
    torch.testing.assert_close(METHODS[method](restored, darker), small[method], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_eight_bit_fixes_equal_the_official_ones(small, restored, darker, method):
    levels = [(x * 255).round().to(torch.uint8).permute(0, 2, 3, 1) for x in (restored, darker)]
    off = (fix_colors(*levels, method=method)[0].int() - small[f"{method}_u8"].int()).abs()
    # A value on the edge of a level may fall to either side.
    assert off.max() <= 1
    assert (off > 0).float().mean() <= 1e-3


def test_adain_with_a_reference_of_another_size_equals_the_official_one(small, restored):
    # Only here do biased deviations differ: for equal sizes their factors cancel.
    fixed = adain(restored, image("small", 16, 24))
    torch.testing.assert_close(fixed, small["adain_other_size"], rtol=0, atol=1e-5)


def test_eight_bit_deviations_are_unbiased():
    # Two pixels a level from their mean. Squared deviations are the sum of squares over n - 1 = 1, and 1e-5 is added
    # to both: sqrt(2 * 100**2 / 255**2 + 1e-5) / sqrt(2 / 255**2 + 1e-5) = 86.98 levels for one; biased, 77.97.
    x = torch.tensor([99, 101], dtype=torch.uint8).reshape(1, 1, 2, 1).expand(1, 1, 2, 3).contiguous()
    reference = torch.tensor([0, 200], dtype=torch.uint8).reshape(1, 1, 2, 1).expand(1, 1, 2, 3).contiguous()
    assert fix_colors(x, reference, method="adain")[0, 0, :, 0].tolist() == [13, 186]


def test_wavelet_blur_is_centred_and_sums_to_one():
    # An impulse stays in the middle: 1/16, 2/16, 4/16 at the distance of the dilation, whatever side.
    impulse = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    impulse[..., 4, 4] = 1
    expected = torch.zeros(9, 9, dtype=torch.float64)
    expected[2:7:2, 2:7:2] = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    torch.testing.assert_close(wavelet_blur(impulse, 2)[0, 0], expected)


def test_wavelet_blur_keeps_a_ramp_away_from_the_border_and_repeats_the_border():
    ramp = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12)
    blurred = wavelet_blur(ramp, 4)[0, 0, 0]
    torch.testing.assert_close(blurred[4:8], ramp[0, 0, 0, 4:8])
    # At the left end the neighbour four to the left is the first pixel again: 0.25 * 0 + 0.5 * 0 + 0.25 * 4.
    assert blurred[0] == 1.0


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
