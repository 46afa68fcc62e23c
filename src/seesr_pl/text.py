"""Text that is shown as it is, whatever it holds: a name from a stranger is neither markup nor a command."""

import re
from collections.abc import Iterable
from typing import Any

# Control characters, which move a terminal's cursor; marks that turn the direction of what follows, and separators of
# lines; halves of characters, which stand for the bytes of a name that is no UTF-8 and cannot be printed.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LATEX = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def shown(value: object, *, lines: bool = False) -> str:
    r"""Return `value` as text in which characters that cannot be seen are spelled, "\x1b"; `lines` keeps newlines."""
    return _UNSEEN.sub(lambda found: found[0] if lines and found[0] == "\n" else _spelled(found[0]), str(value))


def say(text: object, *, label: str = "", style: str = "yellow", error: bool = False) -> None:
    """Print one line as it is, after a colored `label`; on the error stream where `error`."""
    from rich.console import Console

    Console(stderr=error).print(rich_text(text, label=label, style=style), soft_wrap=True, highlight=False)


def rich_text(text: object, *, label: str = "", style: str = "") -> Any:
    """Return a line for Rich, in which nothing is markup: a `label` in `style` and the text, or the text in `style`."""
    from rich.text import Text

    return Text.assemble((f"{label} ", style), shown(text)) if label else Text(shown(text), style)


def say_left_out(left_out: Iterable[Any], *, error: bool = False) -> None:
    """Print the path and the reason of each file that a plan leaves out."""
    for left in left_out:
        say(f"{left.path}: {left.reason}", label="left out", error=error)


def in_markdown(text: object) -> str:
    """Return `text` for the cell of a Markdown table."""
    return re.sub(r"[\\`*\[\]<>|~&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", shown(text))


def in_latex(text: object) -> str:
    """Return `text` for the cell of a LaTeX table."""
    return "".join(_LATEX.get(character, character) for character in shown(text))


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
