"""Run the drills: hostile files, broken machines, real folders; print a table of what came out.

    python benchmarks/drills.py [--quick] [--only TEXT] [--list]

Each module named in MODULES has a function `drills(quick: bool)`, which returns pairs of a name, "kills: ...", and a
function without arguments that returns what came out in words, and whether it passed. With `quick` a drill does fewer
rounds of the same. Ends with exit code 1 where a drill failed.
"""

import argparse
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable

MODULES = ("drill_hostile", "drill_machine", "drill_folders")
Drill = tuple[str, Callable[[], tuple[str, bool]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only drills with this text in their name")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of each")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    chosen = [drill for drill in all_drills(quick=options.quick) if options.only in drill[0]]
    if options.list or not chosen:
        print("\n".join(name for name, _ in chosen) or f"no drill's name contains {options.only!r}; try --list")
        return 0 if options.list else 2
    print("| drill | result | verdict |\n| --- | --- | --- |")
    failed = [name for name, drill in chosen if not run(name, drill)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} drills passed")
    return 1 if failed else 0


def all_drills(*, quick: bool) -> list[Drill]:
    """Return the drills of all modules that are there."""
    there = [name for name in MODULES if importlib.util.find_spec(name)]
    return [drill for name in there for drill in importlib.import_module(name).drills(quick)]


def run(name: str, drill: Callable[[], tuple[str, bool]]) -> bool:
    """Run one drill, print its row, and tell whether it passed; one that raises has failed."""
    try:
        result, passed = drill()
    except Exception as error:
        traceback.print_exc()
        result, passed = f"{type(error).__name__}: {error}", False
    text = " ".join(result.replace("|", "\\|").split())
    print(f"| {name} | {text} | {'passed' if passed else 'FAILED'} |", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
