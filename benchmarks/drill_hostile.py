"""Drills with files from strangers: recorded configs and checkpoints that run code, bombs, names that are markup."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tests" / "faults"
Drill = tuple[str, Callable[[], tuple[str, bool]]]


def drills(quick: bool) -> list[Drill]:
    """Return the drills of this file; with `quick` those of a process each are left out."""
    named = {
        "hostile: code in recorded configs and checkpoints": "test_hostile_code.py",
        "hostile: names as markup and commands": "test_hostile_names.py",
        "bombs: headers, archives, indices": "test_hostile_bombs.py",
    }
    return [(name, lambda file=file: run_tests(FAULTS / file, quick=quick)) for name, file in named.items()]


def run_tests(path: Path, *, quick: bool) -> tuple[str, bool]:
    """Run a file of tests in a process of its own; return its last line, and whether all of them passed."""
    command = [sys.executable, "-m", "pytest", "-p", "no:warnings", "-o", "addopts=--import-mode=importlib", str(path)]
    done = subprocess.run([*command, *(["-m", "not slow"] if quick else [])], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip().splitlines()[-1].strip("= "), done.returncode == 0
