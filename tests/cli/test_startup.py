"""Help, and the answer that weights are missing, come before anything heavy is imported."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from seesr_pl.cli import commands

PROGRAM = """
import sys
from seesr_pl.cli import app
try:
    app()
finally:
    loaded = {"torch", "diffusers", "transformers", "lightning", "cv2", "numpy"} & set(sys.modules)
    print("loaded:", ", ".join(sorted(loaded)))
"""
MISSING = ["--base", "no-sd", "--seesr", "no-seesr", "--ram", "no-ram.pth"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "Restore and tag images"),
        (["restore", "--help"], "--guidance"),
        (["restore", "a.png", "--out", "out", *MISSING], "no-ram.pth"),
        (["tag", "a.png", "--out", "out", "--ram", "no-ram.pth"], "no-ram.pth"),
    ],
    ids=["help", "help of restore", "restore without weights", "tag without weights"],
)
def test_a_quick_answer_imports_nothing_heavy(arguments, said, tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert said in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: "
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [[], ["restore"], ["tag"], ["shards"], ["shards", "build"], ["convert"], ["study"]])
def test_help_on_eighty_columns_cuts_nothing_off(command):
    said = CliRunner().invoke(commands, [*command, "--help"], terminal_width=80, env={"COLUMNS": "80"}).output
    assert max(map(len, said.splitlines())) <= 80
    assert not [line for line in said.splitlines()[1:] if "\u2026" in line or line.endswith("...")]
