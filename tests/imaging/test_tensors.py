"""Pictures as tensors."""

import pytest
import torch

from seesr_pl.imaging.tensors import resize_bicubic, to_float, to_uint8


def test_every_level_survives_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-1.0, 0.6 / 255, 2.0]).reshape(1, 3, 1, 1)
    assert to_uint8(values).flatten().tolist() == [0, 1, 255]


def test_to_float_puts_the_channel_first():
    image = torch.zeros(1, 2, 3, 3, dtype=torch.uint8)
    image[..., 1] = 255
    assert to_float(image).mean((0, 2, 3)).tolist() == [0, 1, 0]


def test_bicubic_keeps_a_constant_and_the_range():
    assert torch.allclose(resize_bicubic(torch.full((1, 3, 4, 4), 0.3), (16, 16)), torch.tensor(0.3), atol=1e-6)
    edges = resize_bicubic((torch.arange(16).reshape(1, 1, 4, 4) % 2).float().expand(1, 3, 4, 4), (16, 16))
    assert edges.min() >= 0
    assert edges.max() <= 1


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75, which torch's bicubic interpolation has."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resized(row: list[float], length: int) -> list[float]:
    """A row by the definition: half-pixel centres, four neighbours, the border repeated, no antialiasing."""
    last = len(row) - 1
    result = []
    for position in range(length):
        place = (position + 0.5) * len(row) / length - 0.5
        near = range(int(place) - 3, int(place) + 5)
        result.append(sum(row[min(max(index, 0), last)] * cubic(place - index) for index in near))
    return result


@pytest.mark.parametrize("length", [32, 24, 5])
def test_bicubic_is_the_definition_with_half_pixel_centres_and_without_antialiasing(length):
    row = (0.5 + 0.3 * torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).tolist()
    image = torch.tensor(row, dtype=torch.float64).expand(1, 3, 8, 8)
    expected = torch.tensor(resized(row, length), dtype=torch.float64)
    torch.testing.assert_close(resize_bicubic(image, (8, length))[0, 0, 0], expected)
    torch.testing.assert_close(resize_bicubic(image.mT, (length, 8))[0, 0, :, 0], expected)


def test_every_row_of_a_tall_image_reaches_8_bits():
    levels = torch.randint(0, 256, (1, 600, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_rounding_lq_before_it_is_enlarged_moves_a_pixel_by_little_more_than_a_level():
    """Official pairs are enlarged from an LQ image that was not rounded, and rounded then; here it is the other way."""
    lq = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    official = (resize_bicubic(lq, (512, 512)) * 255).round()
    difference = (official - resize_bicubic((lq * 255).round() / 255, (512, 512)) * 255).abs()
    assert 1.1 < difference.max() < 1.42
    assert 0.25 < difference.mean() < 0.35
