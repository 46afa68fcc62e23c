"""The picture at work and the way back."""

import numpy as np
import pytest
from PIL import Image

from seesr_pl.sampling.images import check_tiles, finish, prepare, prompt_text


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


@pytest.mark.parametrize("size", [(2000, 3), (3, 2000)])
def test_a_strip_is_not_enlarged_beyond_reason(size):
    strip = np.zeros((*size, 3), np.uint8)
    with pytest.raises(ValueError, match=r"42668.*at least 64.* 64 to 1 at most: .* process_size=12 or less"):
        prepare(strip, 4, multiple=8, process_size=64)
    assert max(prepare(strip, 4, multiple=8, process_size=12).size) == 8000
    prepare(np.zeros((4, 256, 3), np.uint8), 4, multiple=8, process_size=64)  # as 64 to 1


def test_a_latent_too_thin_for_its_tiles_is_refused_with_their_overlap():
    work = prepare(np.zeros((3, 2000, 3), np.uint8), 4, multiple=8, process_size=12)
    with pytest.raises(ValueError, match=r"8000x12 pixels needs latent tiles of 2 points, .* overlap=4: lower overlap"):
        check_tiles(work, 8, tile=16, overlap=4)
    check_tiles(work, 8, tile=16, overlap=1)
    check_tiles(work, 8, tile=96, overlap=4)  # taken whole


def test_the_prompt_keeps_the_official_commas():
    assert prompt_text("cat, dog", "", "clean, high-resolution, 8k") == "cat, dog, ,clean, high-resolution, 8k"
