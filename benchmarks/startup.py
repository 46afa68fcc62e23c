"""Processor time until a command or an import is ready, as a ratio to `import torch`: the median of some rounds.

python benchmarks/startup.py --rounds 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_STEP = ["experiment=tiny_seesr", "trainer.max_steps=1", "trainer.enable_progress_bar=false"]
STARTS = {
    "import torch": ["-c", "import torch"],
    "seesr --help": ["-c", "import sys; sys.argv = ['seesr', '--help']; from seesr_pl.cli import app; app()"],
    "train.py --cfg job": [str(ROOT / "train.py"), "experiment=seesr", "--cfg", "job"],
    "import seesr_pl.evaluation": ["-c", "import seesr_pl.evaluation"],
    "seesr_pl.evaluation, its metrics and its judge": ["-c", "from seesr_pl.evaluation import psnr_y, judge_method"],
    "the pipeline": ["-c", "from seesr_pl.sampling import SeeSRPipeline"],
    "the first step of tiny_seesr, its data made": [str(ROOT / "train.py"), *FIRST_STEP],
}


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        _seconds(STARTS["the first step of tiny_seesr, its data made"], folder, 0)  # makes its data, and warms the disk
        measured = {name: [] for name in STARTS}
        for number in range(1, rounds + 1):
            for name, command in STARTS.items():
                measured[name].append(_seconds(command, folder, number))
    unit = statistics.median(measured["import torch"])
    print("| start | ratio to `import torch` |\n| --- | --- |")
    for name, seconds in measured.items():
        print(f"| {name} | {statistics.median(seconds) / unit:.2f} |")
    print(f"\n`import torch` takes {unit:.2f} s of processor time here.")


def _seconds(command: list[str], folder: str, number: int) -> float:
    extra = []
    if "experiment=tiny_seesr" in command:
        extra = [f"paths.outputs={folder}/outputs", f"paths.shards={folder}/shards", f"run_name=run{number}"]
    before = os.times()
    subprocess.run([sys.executable, *command, *extra], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
