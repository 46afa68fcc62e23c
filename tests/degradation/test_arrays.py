"""The two forms of an image, and the way between them."""

import numpy as np

from seesr_pl.degradation.arrays import to_image, to_pixels


def test_levels_are_the_nearest_and_what_lies_outside_is_clipped():
    image = np.array([[[-0.1, 0.4 / 255, 0.6 / 255], [99.4 / 255, 99.6 / 255, 1.1]]], np.float32)
    assert to_pixels(image).ravel().tolist() == [0, 0, 1, 99, 100, 255]


def test_every_level_survives_the_way_to_floats_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert to_image(levels).dtype == np.float32
    assert to_image(levels).max() == 1.0
    np.testing.assert_array_equal(to_pixels(to_image(levels)), levels)
