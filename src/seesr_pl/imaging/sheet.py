"""Lay out images for viewing: rows, grids, and lines of colored text. All are uint8 RGB HxWx3."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seesr_pl.types import RGB

Color = tuple[int, int, int]
Word = tuple[str, Color]
WHITE, BLACK, INK = (255, 255, 255), (0, 0, 0), (20, 20, 20)

_GAP = 8
_LEADING = 4


class CaptionedPair(NamedTuple):
    """A training or test pair, each image of any size, and its caption."""

    hq: RGB
    lq: RGB
    caption: str


def row(*images: RGB, gap: int = 0) -> RGB:
    """Place images of one height side by side, `gap` white pixels between them."""
    between = np.full((len(images[0]), gap, 3), 255, np.uint8)
    return np.concatenate([part for image in images for part in (between, image)][1:], axis=1)


def grid(cells: Sequence[RGB], *, num_columns: int) -> RGB:
    """Place cells of one width from left to right and from top to bottom; above a lower cell the sheet is white."""
    height = max(len(cell) for cell in cells)
    even = [np.pad(cell, ((height - len(cell), 0), (0, 0), (0, 0)), constant_values=255) for cell in cells]
    num_columns = min(num_columns, len(even))
    even += [np.full_like(even[0], 255)] * (-len(even) % num_columns)
    return np.concatenate([row(*even[first : first + num_columns]) for first in range(0, len(even), num_columns)])


def text(
    lines: Sequence[Sequence[Word]],
    *,
    width: int,
    size: int = 10,
    left: int = 2,
    top: int = 1,
    ground: Color = BLACK,
) -> RGB:
    """Draw lines of colored words, each `size + 4` pixels high, on a background `ground` of `width` pixels.

    The first line begins `left` and `top` pixels from the corner. A line that is longer than `width` is cut off.
    """
    line_height = size + _LEADING
    sheet = Image.new("RGB", (width, line_height * len(lines)), ground)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=size)
    for number, line in enumerate(lines):
        position = float(left)
        for word, color in line:
            draw.text((position, top + number * line_height), word, fill=color, font=font)
            position += draw.textlength(word, font=font)
    return np.asarray(sheet)


def with_caption(image: RGB, caption: str) -> RGB:
    """Return `image` with one line of white text on black below it."""
    return np.concatenate([image, text([[(caption, WHITE)]], width=image.shape[1])])


def wrapped(title: str, words: Sequence[Word], *, width: int, size: int) -> list[list[Word]]:
    """Break `title` and then `words`, separated by commas, into lines of about `width` pixels, for `text`.

    Characters outside ASCII become `?`.
    """
    columns = width * 12 // (7 * size)  # a letter of the font is 7 / 12 of its size wide, on average
    lines: list[list[Word]] = [[(textwrap.shorten(title, columns) + " ", INK)]]
    used = len(title)
    for index, (word, color) in enumerate(words):
        # Pillow's own font has few characters.
        part = word.encode("ascii", "replace").decode() + (", " if index < len(words) - 1 else "")
        if used + len(part) > columns:
            lines.append([("  ", INK)])
            used = 2
        lines[-1].append((part, color))
        used += len(part)
    return lines


def contact_sheet(pairs: Sequence[CaptionedPair], *, num_columns: int = 4) -> RGB:
    """Place pairs in a grid: hq on the left, lq enlarged to the size of hq on the right, the caption above."""
    return grid([_cell(pair) for pair in pairs], num_columns=num_columns)


def _cell(pair: CaptionedPair) -> RGB:
    height, width = pair.hq.shape[:2]
    # Nearest neighbor, so that each pixel of lq can be seen.
    lq = cv2.resize(pair.lq, (width, height), interpolation=cv2.INTER_NEAREST)
    both = row(pair.hq, lq, gap=_GAP // 2)
    # The text grows with the crop, which is viewed at a reduced size, and shrinks until the caption fits.
    size = 10 * max(1, width / 256)
    length = ImageFont.load_default(size=size).getlength(pair.caption)
    size = max(4, int(size * min(1, both.shape[1] / max(length, 1))))
    caption = text([[(pair.caption, BLACK)]], width=both.shape[1], size=size, left=0, ground=WHITE)
    return np.pad(np.concatenate([caption, both]), ((_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=255)
