"""The crops of both stages."""

import numpy as np
import pytest
from PIL import Image

from seesr_pl.data.crop import random_crop, resize_whole
from seesr_pl.keyed import numpy_generator


def numbered(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell their place."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_a_crop_is_a_window_flipped_or_not_and_reaches_every_place():
    image = numbered(40, 50)
    tops, lefts, places, flips = set(), set(), set(), 0
    for number in range(600):
        crop = random_crop(image, 32, numpy_generator(number)).astype(int)
        flipped = crop[0, 0, 1] > crop[0, -1, 1]
        straight = crop[:, ::-1] if flipped else crop
        top, left = straight[0, 0, :2]
        np.testing.assert_array_equal(straight, image[top : top + 32, left : left + 32])
        tops.add(int(top))
        lefts.add(int(left))
        places.add((bool(flipped), int(top), int(left)))
        flips += bool(flipped)
    # Of 2 x 9 x 19 places 600 independent draws miss about a sixth.
    assert len(places) > 250
    assert tops == set(range(9))
    assert lefts == set(range(19))
    assert 240 < flips < 360


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (10, 9)])
def test_a_small_image_is_reflected_at_the_bottom_and_right_without_repeating_its_border(shape):
    image = numbered(*shape)
    padded = np.pad(image, [(0, max(0, 32 - shape[0])), (0, max(0, 32 - shape[1])), (0, 0)], mode="reflect")
    flipped = np.pad(image[:, ::-1], [(0, max(0, 32 - shape[0])), (0, max(0, 32 - shape[1])), (0, 0)], mode="reflect")
    for number in range(20):
        crop = random_crop(image, 32, numpy_generator(number))
        windows = [
            whole[top : top + 32, left : left + 32]
            for whole in (padded, flipped)
            for top in range(whole.shape[0] - 31)
            for left in range(whole.shape[1] - 31)
        ]
        assert any(np.array_equal(crop, window) for window in windows)


def test_dape_resizes_the_whole_image_and_ignores_its_aspect():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(resize_whole(image, 32, numpy_generator(0)), expected)
