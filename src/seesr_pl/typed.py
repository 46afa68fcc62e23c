"""What a user types: the value of a key in the form in which Hydra takes it as it stands, and a whole command."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_SPECIAL = frozenset("()[]{},=")
"""Characters of Hydra's grammar that names of folders have too: `RealSR(V3)`, `module.learning_rate=0.001,seed=1`."""


def command(words: Sequence[str]) -> str:
    """Return the command of `words`, this process's own, as it was typed; where another program began it, as given."""
    programs = {"evaluate.py": "python evaluate.py", "seesr-evaluate": "seesr-evaluate"}
    for place, word in enumerate(words):
        if Path(word).name in programs:
            return f"{programs[Path(word).name]} {shlex.join(words[place + 1 :])}"
    return shlex.join(["python", *sys.argv])


def hydra_value(key: str, value: str) -> str:
    """Return `value` in quotes where it names a file or folder, or where Hydra cannot read it; otherwise as it is.

    `~/` at its beginning is the home folder. Raises ValueError, with what to type instead, for a list, mapping or
    quoted text that is not closed.
    """
    value = os.path.expanduser(value) if value == "~" or value.startswith("~/") else value
    if _SPECIAL & set(value):
        if os.path.exists(value):
            return _quoted(value)
        items = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else []
        if items and all(os.path.exists(os.path.expanduser(item)) for item in items):
            return f"[{','.join(map(_quoted, items))}]"
    if _is_read(value):
        return value
    if value.startswith(("[", "{", "'", '"')):
        fix = shlex.quote(f"{key}={_quoted(value)}")
        raise ValueError(f"{key}={value}: Hydra cannot read this value; if it is a text, type {fix}")
    return _quoted(value)


def _is_read(value: str) -> bool:
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def _quoted(text: str) -> str:
    # Hydra's rule: backslashes before a quote are doubled, and the quote is escaped.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text) + "'"
