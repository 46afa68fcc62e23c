"""A tag comparison for the eye: pairs of pictures with what each network sees, and the table beside them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from seesr_pl.evaluation.semantics import TagExample, TagResult, write_table
from seesr_pl.imaging.io import write_image

_MARGIN, _LINE_HEIGHT, _CHARACTER_WIDTH = 8, 16, 7
_MISSED, _WRONG, _RIGHT = (150, 150, 150), (190, 40, 40), (20, 20, 20)


def tag_sheet(example: TagExample, *, side: int = 384) -> UInt8[np.ndarray, "h w 3"]:
    """One picture pair, each `side` pixels wide, with three lists of tags.

    In the lists of the LQ, tags that the teacher sees too are black, others red, and what is missed is gray.
    """
    width = 2 * side + 3 * _MARGIN
    columns = (width - 2 * _MARGIN) // _CHARACTER_WIDTH
    lines = [line for title, words in _lists(example) for line in _wrapped(title, words, columns)]
    height = side + 3 * _MARGIN + _LINE_HEIGHT * len(lines)
    sheet = Image.new("RGB", (width, height), "white")
    for column, pixels in enumerate((example.lq, example.hq)):
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(picture, (_MARGIN + column * (side + _MARGIN), _MARGIN))
    _write(ImageDraw.Draw(sheet), lines, top=side + 2 * _MARGIN)
    return np.asarray(sheet)


def write_tag_report(result: TagResult, folder: str | Path) -> None:
    """Write the table and the example sheets of `result` into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(result, folder / "tags.csv")
    for index, example in enumerate(result.examples):
        write_image(folder / f"example_{index}.png", tag_sheet(example))


_Words = Sequence[tuple[str, tuple[int, int, int]]]


def _lists(example: TagExample) -> list[tuple[str, _Words]]:
    title = f"{example.key}, severity {example.severity:.2f} - RAM on the HQ: "
    return [
        (title, [(tag, _RIGHT) for tag in example.teacher]),
        ("RAM on the LQ: ", _judged(example.ram, example.teacher)),
        ("DAPE on the LQ: ", _judged(example.dape, example.teacher)),
    ]


def _judged(tags: Sequence[str], teacher: Sequence[str]) -> _Words:
    seen = [(tag, _RIGHT if tag in teacher else _WRONG) for tag in tags]
    return [*seen, *((tag, _MISSED) for tag in teacher if tag not in tags)]


def _wrapped(title: str, words: _Words, columns: int) -> list[list[tuple[str, tuple[int, int, int]]]]:
    lines: list[list[tuple[str, tuple[int, int, int]]]] = [[(textwrap.shorten(title, columns) + " ", _RIGHT)]]
    used = len(title)
    for index, (word, colour) in enumerate(words):
        text = _ascii(word) + (", " if index < len(words) - 1 else "")
        if used + len(text) > columns:
            lines.append([("  ", _RIGHT)])
            used = 2
        lines[-1].append((text, colour))
        used += len(text)
    return lines


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[Sequence[tuple[str, tuple[int, int, int]]]], *, top: int) -> None:
    font = ImageFont.load_default(size=12)
    for number, line in enumerate(lines):
        left = float(_MARGIN)
        for text, colour in line:
            draw.text((left, top + number * _LINE_HEIGHT), text, fill=colour, font=font)
            left += draw.textlength(text, font=font)


def _ascii(word: str) -> str:
    # The font that Pillow carries has few letters.
    return word.encode("ascii", "replace").decode()
