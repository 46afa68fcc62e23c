"""The picture at work and the way back."""

import numpy as np
import pytest
from PIL import Image

from seesr_pl.sampling.images import finish, prepare, prompt_text


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_regular_picture_is_enlarged_by_pillow_bicubic():
    rgb = noise(128, 136)
    expected = np.asarray(Image.fromarray(rgb).resize((512, 544), Image.Resampling.BICUBIC))
    for recipe in ("default", "official"):
        np.testing.assert_array_equal(prepare(rgb, 4, multiple=8, recipe=recipe).image, expected)


@pytest.mark.parametrize("short", [49, 98, 103, 107])
def test_truncated_sizes_are_reproduced_by_the_official_recipe_only(short):
    rgb = noise(short, 200)
    assert prepare(rgb, 4, multiple=8, recipe="official").size[1] == 504
    assert prepare(rgb, 4, multiple=8, recipe="default").size[1] == 512


def test_odd_sides_are_padded_not_resized():
    rgb = noise(129, 131)
    work = prepare(rgb, 4, multiple=8, recipe="default")
    assert work.size == (524, 516)
    assert work.image.shape == (528, 520, 3)
    assert prepare(rgb, 4, multiple=8, recipe="official").image.shape == (520, 512, 3)


def test_finishing_an_untouched_picture_gives_the_enlarged_input():
    rgb = noise(129, 131)
    work = prepare(rgb, 4, multiple=8, recipe="default")
    result = finish(work.image, work, color_fix="none")
    np.testing.assert_array_equal(result, work.image[:524, :516])


@pytest.mark.parametrize("upscale", [1, 2, 3, 2.5])
def test_the_target_is_upscale_times_the_input(upscale):
    work = prepare(noise(33, 70), upscale, multiple=8, recipe="default")
    assert work.target == (round(70 * upscale), round(33 * upscale))
    assert finish(work.image, work, color_fix="wavelet").shape[:2] == work.target


def test_a_sliver_is_refused_with_the_limit():
    with pytest.raises(ValueError, match=r"30000x10 pixels need .* the limit is"):
        prepare(noise(30000, 10), 4, multiple=8, recipe="default")


def test_the_prompt_keeps_the_official_commas():
    assert prompt_text("cat, dog", "", "clean, high-resolution, 8k") == "cat, dog, ,clean, high-resolution, 8k"
