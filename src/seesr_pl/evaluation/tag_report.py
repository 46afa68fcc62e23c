"""What RAM and DAPE see, as files to read and to look at: CSV, JSON, sheets of examples, a section of the report."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from seesr_pl.evaluation.semantics import TagExample, TagResult, TagRow
from seesr_pl.evaluation.statistics import finite_or_none
from seesr_pl.files import write_whole
from seesr_pl.imaging import sheet
from seesr_pl.imaging.io import write_image
from seesr_pl.types import RGB

if TYPE_CHECKING:
    from seesr_pl.evaluation.report import Section

_MARGIN, _TEXT_SIZE = 8, 12
_MISSED, _WRONG = (150, 150, 150), (190, 40, 40)


def write_tags(result: TagResult, folder: str | Path) -> None:
    """Write `tags.csv`, the rows of `result`, `summary.json`, and a sheet `example_<i>.png` for each example.

    The summary is `{"metrics": {"dape/f1": {"mean", "n"}, ...}, "by_degradation": [...]}`.
    """
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(TagRow._fields)
    writer.writerows(result.rows)
    write_whole(Path(folder) / "tags.csv", content.getvalue())
    counts = {row.metric: row.n for row in result.overall}
    means = result.scalars().items()
    metrics = {name: {"mean": finite_or_none(value), "n": counts[name.partition("/")[2]]} for name, value in means}
    rows = [
        {name: finite_or_none(value) if isinstance(value, float) else value for name, value in row._asdict().items()}
        for row in result.rows
    ]
    summary = {"metrics": metrics, "by_degradation": rows[len(result.overall) :]}
    write_whole(Path(folder) / "summary.json", json.dumps(summary, indent=2) + "\n")
    for index, example in enumerate(result.examples):
        write_image(Path(folder) / f"example_{index}.png", tag_sheet(example))


def tags_section(result: TagResult) -> "Section":
    """Return the rows as a table for each part of the images, and the sheets of the examples, for the report."""
    from seesr_pl.evaluation.report import Section, Table  # here, because it imports matplotlib

    header, size = ("metric", "images", "RAM", "DAPE", "DAPE minus RAM", "95 % interval"), len(result.overall)
    parts = [result.rows[start : start + size] for start in range(0, len(result.rows), size)]
    tables = [Table((rows[0].part, *header[1:]), [list(_cells(row)) for row in rows]) for rows in parts]
    text = (
        "What RAM and DAPE see on the LQ image, judged by RAM's tags on the HQ image. In the lists black tags are "
        "RAM's on the HQ image too, red ones are not, gray ones are missed. For the first three rows less is better."
    )
    sheets = {example.key: tag_sheet(example) for example in result.examples}
    return Section("What RAM and DAPE see", text, tables, images=sheets)


def _cells(row: TagRow) -> Iterator[str | float | int]:
    yield from (row.metric, row.n, row.ram, row.dape, row.difference)
    yield "-" if math.isnan(row.low) else f"{row.low:+.4f} to {row.high:+.4f}"


def tag_sheet(example: TagExample, *, side: int = 384) -> RGB:
    """Draw LQ and HQ side by side, each enlarged to `side` pixels, above the tags that RAM and DAPE see.

    In the lists of the LQ, tags that the teacher sees too are black, others red, and what is missed is gray.
    """
    images = [Image.fromarray(pixels).resize((side, side)) for pixels in (example.lq, example.hq)]
    margins = (_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)
    pair = np.pad(sheet.row(*map(np.asarray, images), gap=_MARGIN), margins, constant_values=255)
    width = pair.shape[1]
    lists = {
        f"{example.key}, severity {example.severity:.2f} - RAM on the HQ: ": _judged(example.teacher, example.teacher),
        "RAM on the LQ: ": _judged(example.ram, example.teacher),
        "DAPE on the LQ: ": _judged(example.dape, example.teacher),
    }
    lines = [
        line
        for title, words in lists.items()
        for line in sheet.wrapped(title, words, width=width - 2 * _MARGIN, size=_TEXT_SIZE)
    ]
    below = sheet.text(lines, width=width, size=_TEXT_SIZE, left=_MARGIN, top=0, ground=sheet.WHITE)
    return np.concatenate([pair, below, np.full((_MARGIN, width, 3), 255, np.uint8)])


def _judged(tags: Sequence[str], teacher: Sequence[str]) -> list[sheet.Word]:
    seen = [(tag, sheet.INK if tag in teacher else _WRONG) for tag in tags]
    return [*seen, *((tag, _MISSED) for tag in teacher if tag not in tags)]
