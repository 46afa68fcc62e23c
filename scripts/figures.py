"""Measure the size of the code and the hops along its main paths: `make figures`.

Files and lines are those of Python files. A function's lines run from its `def` to its end, docstring included; nested
functions and methods count each by itself. `scripts/hops.py` says how hops are counted. Goals are in brackets.
"""

import argparse
import ast
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hops

ROOT = Path(__file__).resolve().parents[1]
MAX_FUNCTION_LINES, MAX_FILE_LINES = 60, 300
CORE_GOAL = {"files": 80, "lines": 10_000}
HOPS_GOAL = {  # files, functions
    "training_step (SeeSR)": (5, 15),
    "SeeSRPipeline.__call__": (9, 35),
    "seesr restore": (16, 70),
    "evaluate.py (restoration)": (20, 100),
    "train.py, one step": (30, 150),
}


class Source(NamedTuple):
    """A Python file: its path below the repository, its number of lines and its syntax tree."""

    path: str
    lines: int
    tree: ast.Module


class Function(NamedTuple):
    """Where a function is, and its number of lines."""

    place: str
    lines: int


def main() -> None:
    """Print the figures, as text or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-hops", action="store_true", help="do not count hops, which takes two minutes")
    given = parser.parse_args()
    found = figures(with_hops=not given.no_hops)
    print(json.dumps(found, indent=2) if given.json else "\n".join(as_text(found)))


def figures(*, with_hops: bool = True) -> dict[str, Any]:
    """All figures by name."""
    package = read(ROOT / "src")
    core, tiny = [file for file in package if not is_tiny(file)], [file for file in package if is_tiny(file)]
    return {
        "size": {
            name: size(files) for name, files in (("core", core), ("tiny", tiny), ("tests", read(ROOT / "tests")))
        },
        "hops": {name: counts._asdict() for name, counts in hops.measure().items()} if with_hops else {},
        "contracts": contracts(),
        "undocumented": [name for file in package for name in undocumented(file)],
        "long_functions": [each for each in functions(package) if each.lines > MAX_FUNCTION_LINES],
        "long_files": [(file.path, file.lines) for file in package if file.lines > MAX_FILE_LINES],
    }


def read(folder: Path) -> list[Source]:
    """The Python files below `folder`."""
    texts = {path: path.read_text() for path in sorted(folder.rglob("*.py"))}
    return [
        Source(str(path.relative_to(ROOT)), len(text.splitlines()), ast.parse(text)) for path, text in texts.items()
    ]


def is_tiny(file: Source) -> bool:
    """Whether the file is about the tiny stack, by its path."""
    return "tiny" in file.path


def size(files: Sequence[Source]) -> dict[str, Any]:
    """Number and lines of files and functions: median, nine-tenths and longest."""
    lines = {file.path: file.lines for file in files}
    spans = {each.place: each.lines for each in functions(files)}
    return {"files": len(files), "lines": sum(lines.values()), "functions": len(spans),
            "file_lines": spread(lines), "function_lines": spread(spans)}  # fmt: skip


def spread(lines: dict[str, int]) -> dict[str, Any]:
    """Median, nine-tenths and longest of `lines`, and which is the longest."""
    if not lines:
        return {"median": 0, "nine_tenths": 0, "longest": 0, "which": ""}
    ordered = sorted(lines.values())
    tenth = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    which = max(lines, key=lambda name: lines[name])
    return {"median": statistics.median(ordered), "nine_tenths": tenth, "longest": ordered[-1], "which": which}


def functions(files: Sequence[Source]) -> list[Function]:
    """Every function, method and nested function of `files`."""
    return [
        Function(f"{file.path}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for file in files
        for node in ast.walk(file.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def undocumented(file: Source) -> list[str]:
    """The module, public classes, functions and methods of `file` that have no docstring."""
    return [f"{file.path}{name}" for name, node in _public(file.tree, "") if ast.get_docstring(node) is None]


def _public(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, node
    for child in () if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else node.body:
        is_named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_named and not child.name.startswith("_"):
            yield from _public(child, f"{name} {child.name}" if not name else f"{name}.{child.name}")


def contracts() -> dict[str, Any]:
    """How many import contracts are kept, and the names of those that are broken."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    counts = re.search(r"Contracts: (\d+) kept, (\d+) broken", done.stdout)
    if counts is None:
        raise RuntimeError(f"lint-imports gave no counts:\n{done.stdout}{done.stderr}")
    return {"kept": int(counts[1]), "broken": re.findall(r"^(.+?) BROKEN", done.stdout, re.MULTILINE)}


def as_text(found: dict[str, Any]) -> Iterator[str]:
    """The lines of the report."""
    yield f"{'':<7}{'files':>7}{'lines':>8}{'functions':>11}   median/nine-tenths/longest: function, file"
    for name, each in found["size"].items():
        spans = ", ".join("/".join(f"{each[key][part]:g}" for part in ("median", "nine_tenths", "longest"))
                          for key in ("function_lines", "file_lines"))  # fmt: skip
        goal = f"   (goal: {CORE_GOAL['files']} files, {CORE_GOAL['lines']} lines)" if name == "core" else ""
        yield f"{name:<7}{each['files']:>7}{each['lines']:>8}{each['functions']:>11}   {spans}{goal}"
    yield f"longest function: {found['size']['core']['function_lines']['which']}"
    yield from _hops_text(found["hops"])
    broken = found["contracts"]["broken"]
    yield f"\nimport contracts: {found['contracts']['kept']} kept, {len(broken)} broken (goal: 0)"
    yield from (f"  {name}" for name in broken)
    yield from _list("public names without a docstring", found["undocumented"])
    for key, limit in (("long_functions", MAX_FUNCTION_LINES), ("long_files", MAX_FILE_LINES)):
        rows = [f"{place}: {lines}" for place, lines in found[key]]
        yield from _list(f"{key.partition('_')[2]} over {limit} lines", rows)


def _hops_text(found: dict[str, Any]) -> Iterator[str]:
    if found:
        yield f"\n{'hops':<27}{'files':>14}{'functions':>16}{'calls':>7}"
    for name, each in found.items():
        files, names = HOPS_GOAL[name]
        reached = "" if each["files"] <= files and each["functions"] <= names else "   over"
        counts = f"{each['files']:>6} (goal {files:>2}){each['functions']:>6} (goal {names:>3})"
        yield f"{name:<27}{counts}{each['calls']:>7}{reached}"


def _list(title: str, rows: Sequence[str]) -> Iterator[str]:
    yield f"{title}: {len(rows)} (goal: 0)"
    yield from (f"  {row}" for row in rows)


if __name__ == "__main__":
    main()
