"""Restore and tag images, build shards, fetch and convert weights, check the installation, serve a demo page."""

import os
import re
import sys
from typing import Any

import typer
import typer.core

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

# In the order of use, each with an example.
EXAMPLES = {
    "doctor": "seesr doctor experiment=seesr trainer.devices=8",
    "weights": "seesr weights ram dape --convert",
    "restore": "seesr restore photos/ --out restored --ckpt outputs/seesr",
    "tag": "seesr tag photos/ --out tags --ckpt outputs/seesr",
    "demo": "seesr demo --ckpt outputs/seesr",
    "photos": "seesr photos photos --crops 2",
    "replay": "seesr replay outputs/seesr --step 120",
    "export": "seesr export outputs/seesr shared/seesr",
}
GROUPS = {"shards": shards.app, "convert": convert.app, "study": study.app}


class InOrder(typer.core.TyperGroup):
    """The commands of the list of help: those that a newcomer types first stand first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands in the order of use."""
        names = list(EXAMPLES)
        place = names.index("photos") + 1
        return [*names[:place], *GROUPS, *names[place:]]


commands = typer.Typer(
    cls=InOrder,
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    epilog="seesr COMMAND --help tells more and gives an example. Training and judging: python train.py --help, "
    "python evaluate.py --help",
)
for name, group in GROUPS.items():
    commands.add_typer(group, name=name)
for command in (doctor, weights, restore, tag, demo, photos, replay, export):
    commands.command(epilog=f"Example: {EXAMPLES[command.__name__]}")(command)


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
