"""The two lists that RAM's weights need beside them: the tags, and the threshold of each. Needs no torch."""

from pathlib import Path

from seesr_pl.limits import read_text

TAG_LIST, THRESHOLDS = "ram_tag_list.txt", "ram_tag_list_threshold.txt"
ORIGIN = "folder ram/data of the RAM repository (github.com/xinyu1205/recognize-anything)"
"""Where both are published."""


def read_tags(path: str | Path) -> list[str]:
    """Return the tag names, one a line. Raises ValueError when one is empty or comes twice."""
    tags = _lines(Path(path))
    if not all(tags) or len(set(tags)) != len(tags):
        raise ValueError(
            f"{path}: {len(tags)} lines, {len(set(tags))} different: a tag list has one tag a line, each once"
        )
    return tags


def read_thresholds(path: str | Path) -> list[float]:
    """Return the probability above which each tag is on, one a line, in the order of the tag list.

    Raises ValueError for a line that is no number.
    """
    lines = _lines(Path(path))
    try:
        return [float(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; a threshold list has one number a line") from error


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is published in the {ORIGIN}")
    return [line.strip() for line in read_text(path).strip().split("\n")]
