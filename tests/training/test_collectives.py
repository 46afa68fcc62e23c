"""What two ranks tell each other in a step: the gradients, one tensor more where something is logged, two numbers."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from collective_runs import ACCUMULATION, LOGGED_EVERY, NUM_STEPS
from seesr_runs import random_batch, small_module

from seesr_pl.training.sums import RankSums

SCRIPT = Path(__file__).parent / "collective_runs.py"


def run(folder, *extra):
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, SCRIPT, folder, *extra], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "counts.json").read_text())


@pytest.mark.slow
def test_the_reduction_is_a_phase_of_its_own_and_measuring_it_reduces_nothing_more(tmp_path):
    steps = run(tmp_path, "phases")
    assert {name for step in steps[2:-1] for name in step["names"]} == {"allreduce"}
    assert all(seconds > 0 for seconds in json.loads((tmp_path / "phases.json").read_text()).values())


@pytest.mark.slow
def test_a_step_has_no_collective_but_the_gradients_and_one_where_something_is_logged(tmp_path):
    steps = run(tmp_path)
    # The first two steps find out in which order gradients come, and cut the buckets anew; the last one saves.
    steady = steps[2:-1]
    assert {name for step in steady for name in step["names"]} == {"allreduce"}
    # On their CPUs, whatever the number of micro batches: is the step before finite, shall the run stop?
    assert [step["on_cpus"] for step in steady] == [2] * len(steady)
    counts = {number: len(step["names"]) - 2 for number, step in enumerate(steps[:-1]) if number >= 2}
    buckets = counts[2]
    assert counts == {n: buckets + ((n + 1) % LOGGED_EVERY == 0) for n in range(2, NUM_STEPS - 1)}

    rows = list(csv.DictReader(next(tmp_path.rglob("metrics.csv")).open()))
    found = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    samples = [10 * rank + ACCUMULATION * (LOGGED_EVERY - 1) + k for rank in (0, 1) for k in range(ACCUMULATION)]
    with torch.no_grad():
        losses = small_module().training_step(random_batch(samples, size=32), 0)["losses"]
    assert found[0] == pytest.approx(losses.mean().item(), rel=1e-3)


def test_values_of_any_shape_come_back_as_they_were_added():
    sums, found = RankSums(), []
    added = [torch.arange(6.0).view(2, 3), torch.tensor(7.0), torch.arange(2)]
    for values in added:
        sums.add(values, found.append)
    sums.reduce()
    assert [one.shape for one in found] == [values.shape for values in added]
    assert all(torch.equal(one, values.float()) for one, values in zip(found, added, strict=True))
    sums.reduce()
    assert len(found) == len(added)
