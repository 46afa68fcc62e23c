"""Write `locks/core.txt` and `locks/EXTRA.txt`: the packages of `constraints.txt` with a hash of each of their files.

    python scripts/lock.py [EXTRA ...]      needs uv (pip install uv)

An extra's file holds what it adds to the core. torch, which has a build for each kind of device, and what comes with it
are left out: they are installed before, from the index of that build (docs/install.md).
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    core = locked()
    write("core", core)
    for extra in sys.argv[1:] or extras:
        write(extra, {name: lines for name, lines in locked("--extra", extra).items() if name not in core})


def locked(*options: str) -> dict[str, str]:
    """Return, by the line that pins a package, that line with its hashes."""
    command = ["uv", "pip", "compile", "-q", "pyproject.toml", "-c", "constraints.txt", "--universal", *options]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = re.findall(r"^\S.*(?:\n    .*)*", done.stdout, flags=re.MULTILINE)
    return {text.partition("\n")[0]: text for text in found if not LEFT_OUT.match(text)}


def write(name: str, packages: dict[str, str]) -> None:
    """Write a list that `pip install --require-hashes` takes."""
    (ROOT / "locks").mkdir(exist_ok=True)
    (ROOT / "locks" / f"{name}.txt").write_text("".join(f"{text}\n" for text in packages.values()))
    print(f"locks/{name}.txt: {len(packages)} packages")


if __name__ == "__main__":
    main()
