"""The stream end to end: real processes with loader workers, killed and started again in other layouts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_nothing_is_lost_or_repeated_through_kills_and_changing_ranks_and_workers(tmp_path):
    sizes = ["--samples=2000", "--stored=600", "--kill-every=400", "--crop-size=64", "--decode-every=4"]
    done = subprocess.run(
        [sys.executable, str(SOAK), f"--out={tmp_path}", *sizes], stdout=subprocess.PIPE, check=True, timeout=1200
    )
    report = json.loads(done.stdout)
    assert (report["lost"], report["twice"]) == (0, 0)
    assert report["attempts"] >= 3
    assert report["replayed"] > 0
    assert report["replaced"] > 0
