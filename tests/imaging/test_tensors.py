"""Pictures as tensors."""

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
