"""Restore and tag images, build shards, fetch and convert weights, check the installation, serve a demo page."""

import os
import re
import sys

import typer

from seesr_pl.cli import convert, shards, study
from seesr_pl.cli.doctor import doctor
from seesr_pl.cli.export import export
from seesr_pl.cli.page import demo
from seesr_pl.cli.replay import replay
from seesr_pl.cli.restore import restore
from seesr_pl.cli.tag import tag
from seesr_pl.cli.weights import weights
from seesr_pl.text import shown
from seesr_pl.tiny.command import photos

commands = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
commands.add_typer(shards.app, name="shards")
commands.add_typer(convert.app, name="convert")
commands.add_typer(study.app, name="study")
for command in (tag, restore, replay, weights, demo, doctor, photos, export):
    commands.command()(command)


def app() -> None:
    """Run the command line; print an error that the user can fix as one message, and exit with code 1."""
    sys.argv[1:] = [_with_home(word) for word in sys.argv[1:]]
    try:
        commands()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("SEESR_FULL_ERROR") == "1":
            raise
        print(f"error: {shown(error, lines=True)}", file=sys.stderr)
        sys.exit(1)


def _with_home(word: str) -> str:
    # Shells leave ~ as it is in --out=~/folder.
    option, path = re.fullmatch(r"(--[\w-]+=)?(.*)", word, re.DOTALL).groups("")  # type: ignore[union-attr]  # matches always
    return option + os.path.expanduser(path) if path == "~" or path.startswith("~/") else word
