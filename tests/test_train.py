"""`train.py` as users call it: on two processes, killed, and started again by the same command."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from seesr_pl.data import ShardWriter

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS, KILL_AT = 20, 10
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The folder of the photographs' shards; the first run makes them."""
    pytest.importorskip("skimage")
    return tmp_path_factory.mktemp("shards")


def command(shards, outputs, *overrides, experiment="tiny_seesr"):
    settings = [f"experiment={experiment}", f"paths.outputs={outputs}", f"paths.shards={shards}", *overrides]
    return [sys.executable, str(ROOT / "train.py"), *settings]


def environment():
    helpers = str(ROOT / "tests" / "training")
    paths = [helpers, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def train(*arguments, **keywords):
    done = subprocess.run(
        command(*arguments, **keywords), env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(run):
    """(step, loss) of each row of a run's metrics.csv that has a loss."""
    with (run / "metrics.csv").open(newline="") as file:
        return [(row["step"], row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def test_two_processes_end_with_the_same_parameters(shards, tmp_path):
    two = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=4", "trainer.limit_val_batches=0")
    witness = ("callbacks.witness._target_=run_witness.ParameterHash", f"callbacks.witness.folder={tmp_path}/hashes")
    train(shards, tmp_path, *two, *witness)
    first, second = ((tmp_path / "hashes" / f"rank_{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert first.startswith("4 ")
    assert len(losses(tmp_path / "tiny_seesr")) == 4


def test_a_run_killed_and_started_again_logs_the_losses_of_an_uninterrupted_one(shards, tmp_path):
    steps = f"trainer.max_steps={NUM_STEPS}"
    kill_when_logged(command(shards, tmp_path / "killed", steps), tmp_path / "killed" / "tiny_seesr", step=KILL_AT)
    assert not (tmp_path / "killed" / "tiny_seesr" / "checkpoints" / f"step_{NUM_STEPS:07d}.ckpt").exists()
    for outputs in ("killed", "whole"):
        train(shards, tmp_path / outputs, steps)
    killed, whole = (losses(tmp_path / outputs / "tiny_seesr") for outputs in ("killed", "whole"))
    assert killed == whole
    assert [int(step) for step, _ in whole] == list(range(NUM_STEPS))


@pytest.mark.parametrize(
    ("experiment", "callbacks", "num_samples"), [("tiny_seesr", "seesr", 3), ("tiny_dape", "default", 1)]
)
def test_ranks_with_uneven_validation_neither_hang_nor_fail(shards, tmp_path, experiment, callbacks, num_samples):
    with ShardWriter(tmp_path / "few") as writer:
        for number in range(num_samples):
            image = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
            writer.write(f"{number}", cv2.imencode(".png", image)[1].tobytes(), extension="png", tags="wood")
    train(
        *(shards, tmp_path, "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=2"),
        *("trainer.val_check_interval=2", "data.global_batch_size=4", f"callbacks={callbacks}"),
        "data.validation_batch_size=1",
        f"data.validation_sources=[{{_target_: seesr_pl.data.ShardSource, urls: {tmp_path}/few/*.tar}}]",
        experiment=experiment,
    )
    with (tmp_path / experiment / "metrics.csv").open(newline="") as file:
        assert [row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]]


def kill_when_logged(arguments, run, *, step):
    """Start a run, and kill -9 it as soon as it has logged `step`."""
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 900
    while process.poll() is None and time.monotonic() < deadline and not has_logged(run, step):
        time.sleep(0.1)
    finished = process.poll()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert finished is None, f"the run ended with {finished} before step {step} was seen"


def has_logged(run, step):
    return (run / "metrics.csv").is_file() and any(int(row) >= step for row, _ in losses(run))
