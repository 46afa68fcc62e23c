"""A run's result depends neither on how often it is killed nor on how its batches are cut."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from seesr_runs import fit

from seesr_pl.data import ShardWriter

SCRIPT = Path(__file__).parent / "seesr_runs.py"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, max_samples=4) as writer:
        for number in range(6):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (72, 72), interpolation=cv2.INTER_CUBIC)
            writer.write(f"{number:04d}", cv2.imencode(".png", image)[1].tobytes(), extension="png", tags="wood,")
    return str(folder / "*.tar")


def run(shards, folder, **arguments):
    command = [sys.executable, str(SCRIPT), json.dumps({"shards": shards, "folder": str(folder), **arguments})]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})


def final(folder):
    return torch.load(folder / "final.pt", weights_only=True)


def diary(folder, world_size=1):
    lines = []
    for rank in range(world_size):
        text = (folder / f"diary_{world_size}_{rank}.jsonl").read_text()
        lines += [json.loads(line) for line in text.splitlines()]
    return lines


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.whole
@pytest.mark.parametrize("averaged", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "averaged"])
def test_a_run_in_two_parts_ends_where_an_uninterrupted_one_does(shards, tmp_path, averaged):
    def callbacks():
        return [EMAWeightAveraging(decay=0.5)] if averaged else []

    for folder, max_steps in (("whole", 2), ("parts", 1), ("parts", 2)):
        fit(shards, tmp_path / folder, max_steps=max_steps, micro_batch_size=2, callbacks=callbacks())
    assert same(final(tmp_path / "whole"), final(tmp_path / "parts"))


@pytest.mark.slow
def test_a_killed_run_ends_where_an_uninterrupted_one_does(shards, tmp_path):
    step = random.SystemRandom().randint(1, 6)
    arguments = {"max_steps": 7, "micro_batch_size": 2}
    killed = run(shards, tmp_path / "killed", kill_after=step, **arguments)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "killed" / "final.pt").exists()
    for folder in ("killed", "whole"):
        done = run(shards, tmp_path / folder, **arguments)
        assert done.returncode == 0, done.stderr
    assert same(final(tmp_path / "killed"), final(tmp_path / "whole")), f"killed after step {step}"


@pytest.mark.slow
def test_one_process_of_four_micro_batches_equals_two_of_two_and_four_of_one(shards, tmp_path):
    for devices in (1, 2, 4):
        done = run(shards, tmp_path / str(devices), max_steps=3, micro_batch_size=1, devices=devices)
        assert done.returncode == 0, done.stderr
    one = final(tmp_path / "1")
    for devices in (2, 4):
        other = final(tmp_path / str(devices))
        assert other.keys() == one.keys()
        for name in one:
            torch.testing.assert_close(other[name], one[name], atol=2e-4, rtol=0, msg=name)


@pytest.mark.slow
def test_cut_optimizer_states_and_a_static_graph_change_no_result_and_a_run_goes_on_without_them(shards, tmp_path):
    first = run(shards, tmp_path / "1", max_steps=3, micro_batch_size=2)
    options = {"devices": 2, "exchange": {"static_graph": True, "bucket_megabytes": 0.1}, "states_are_cut": True}
    second = run(shards, tmp_path / "2", max_steps=2, micro_batch_size=2, **options)
    third = run(shards, tmp_path / "2", max_steps=3, micro_batch_size=2)
    assert [first.returncode, second.returncode, third.returncode] == [0, 0, 0], second.stderr + third.stderr
    one, other = final(tmp_path / "1"), final(tmp_path / "2")
    for name in one:
        torch.testing.assert_close(other[name], one[name], atol=2e-4, rtol=0, msg=name)


@pytest.mark.slow
def test_a_run_moved_from_one_process_to_two_meets_the_same_samples_and_timesteps(shards, tmp_path):
    first = run(shards, tmp_path / "moved", max_steps=2, micro_batch_size=2)
    second = run(shards, tmp_path / "moved", max_steps=4, micro_batch_size=2, devices=2)
    whole = run(shards, tmp_path / "whole", max_steps=4, micro_batch_size=2)
    assert [first.returncode, second.returncode, whole.returncode] == [0, 0, 0], second.stderr
    met = [*diary(tmp_path / "moved"), *diary(tmp_path / "moved", 2)]
    pairs = [sorted(_draws(lines)) for lines in (met, diary(tmp_path / "whole"))]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 16


def _draws(lines):
    return [(*s, t) for line in lines for s, t in zip(line["samples"], line["timesteps"], strict=True)]
