"""Sheets put images where they are said to be, and text where it can be read."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from seesr_pl.imaging.sheet import (
    BLACK,
    INK,
    WHITE,
    CaptionedPair,
    contact_sheet,
    grid,
    row,
    text,
    with_caption,
    wrapped,
)


def flat(value: int, height: int = 6, width: int = 4) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_row_has_its_images_in_order_with_white_between():
    made = row(flat(1), flat(2), flat(3), gap=2)
    assert made.shape == (6, 16, 3)
    assert made[0, :, 0].tolist() == [1] * 4 + [255] * 2 + [2] * 4 + [255] * 2 + [3] * 4


def test_a_grid_goes_right_then_down_and_fills_what_is_free_with_white():
    made = grid([flat(1), flat(2, height=3), flat(3)], num_columns=2)
    assert made.shape == (12, 8, 3)
    assert [made[0, 0, 0], made[0, 4, 0], made[3, 4, 0], made[6, 0, 0], made[6, 4, 0]] == [1, 255, 2, 3, 255]


def test_a_caption_is_one_white_line_on_black_below_the_image():
    image = flat(77, height=8, width=60)
    line = Image.new("RGB", (60, 14))
    ImageDraw.Draw(line).text((2, 1), "cat, dog", fill="white")
    np.testing.assert_array_equal(with_caption(image, "cat, dog"), np.concatenate([image, np.asarray(line)]))


def test_words_keep_their_colors():
    made = text([[("##", (255, 0, 0)), ("##", (0, 0, 255))], [("##", WHITE)]], width=80, size=12)
    assert made.shape == (32, 80, 3)
    red, blue = (np.flatnonzero(made[:16, :, channel].any(0)) for channel in (0, 2))
    assert not made[:16, :, 1].any()
    assert 2 <= red.min() < red.max() < blue.min() + 2 < blue.max()
    assert made[16:].any((0, 1)).all()


def test_words_are_wrapped_without_losing_one():
    words = [(f"word{index}", BLACK) for index in range(30)]
    lines = wrapped("title:", words, width=200, size=12)
    assert lines[0][0] == ("title: ", INK)
    assert [part.strip(", ") for line in lines for part, _ in line[1:]] == [word for word, _ in words]
    assert max(sum(len(part) for part, _ in line) for line in lines) <= 200 / 7 + 1


@pytest.mark.parametrize("side", [64, 512])
def test_a_contact_sheet_shows_each_pair_below_its_whole_caption(side):
    pair = CaptionedPair(
        flat(90, side, side), flat(30, side // 4, side // 4), "id 123456 epoch 0 severity 0.51 photograph"
    )
    made = contact_sheet([pair] * 3, num_columns=2)
    cell = made[: made.shape[0] // 2, : made.shape[1] // 2]
    assert cell.shape[1] == 2 * side + 4 + 16
    assert (cell[-8 - side : -8, 8 : 8 + side] == 90).all()
    assert (cell[-8 - side : -8, -8 - side : -8] == 30).all()
    dark = np.flatnonzero((cell[: -8 - side] < 128).any((0, 2)))
    # The line ends before the sheet does, and not long before.
    assert 0.6 * 2 * side < dark.max() - dark.min() or side == 512
    assert dark.max() < cell.shape[1] - 8
    assert (made[-side:, made.shape[1] // 2 :] == 255).all()
