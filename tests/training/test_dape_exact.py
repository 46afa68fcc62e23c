"""A DAPE run ends the same however it is interrupted or split over processes, its student's chance included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seesr_pl.data import ShardWriter

SCRIPT = Path(__file__).parent / "dape_runs.py"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, max_samples=4) as writer:
        for number in range(6):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (72, 72), interpolation=cv2.INTER_CUBIC)
            writer.write(f"{number:04d}", cv2.imencode(".png", image)[1].tobytes(), extension="png")
    return str(folder / "*.tar")


def run(shards, folder, **arguments):
    command = [sys.executable, str(SCRIPT), json.dumps({"shards": shards, "folder": str(folder), **arguments})]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # with the folders of the helpers
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "final.pt", weights_only=True), torch.load(folder / "rows.pt", weights_only=True)


@pytest.mark.slow
def test_a_run_in_two_parts_ends_where_an_uninterrupted_one_does(shards, tmp_path):
    whole, _ = run(shards, tmp_path / "whole", max_steps=4, micro_batch_size=2)
    run(shards, tmp_path / "parts", max_steps=2, micro_batch_size=2)
    parts, _ = run(shards, tmp_path / "parts", max_steps=4, micro_batch_size=2)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_end_where_one_does_and_see_the_same(shards, tmp_path):
    (one, rows), (two, other_rows) = (
        run(shards, tmp_path / str(devices), max_steps=4, micro_batch_size=2, devices=devices) for devices in (1, 2)
    )
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-4, rtol=0, msg=name)
    assert [row[:4] for row in rows] == [row[:4] for row in other_rows]
    ours, theirs = (torch.tensor([row[4:6] for row in table]) for table in (rows, other_rows))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3, equal_nan=True)
