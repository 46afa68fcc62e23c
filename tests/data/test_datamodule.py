"""The data module: loaders without a trainer, state, and messages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seesr_pl.data import ShardDataModule, ShardDataset, ShardSource
from seesr_pl.data.loader import start_worker, worker_context
from seesr_pl.degradation import NoDegradation, RealESRGANDegradation


def module(*sources: ShardSource, seed=0, global_batch_size=6, **options) -> ShardDataModule:
    options = {"num_workers": 0, "crop_size": 32, "degradation": NoDegradation(), **options}
    return ShardDataModule(list(sources), seed=seed, global_batch_size=global_batch_size, **options)


def test_the_state_is_four_integers(write_shards):
    state = module(ShardSource(write_shards("a", 9))).state_dict()
    assert sorted(state) == ["epoch_length", "fingerprint", "samples_consumed", "seed"]
    assert all(type(value) is int for value in state.values())


def test_another_seed_other_weights_or_other_samples_are_refused(write_shards):
    a, b = write_shards("a", 9), write_shards("b", 9)
    state = module(ShardSource(a)).state_dict()
    for other in (module(ShardSource(a), seed=1), module(ShardSource(a, weight=2)), module(ShardSource(b))):
        with pytest.raises(ValueError, match="cannot be continued"):
            other.load_state_dict(state)


def test_shards_may_move(write_shards, tmp_path):
    urls = write_shards("a", 9)
    state = module(ShardSource(urls)).state_dict()
    Path(urls).parent.rename(tmp_path / "moved")
    module(ShardSource(str(tmp_path / "moved" / "*.tar"))).load_state_dict(state)


def test_the_stream_goes_on_when_the_global_batch_changes(write_shards):
    urls = ShardSource(write_shards("a", 20))
    first = module(urls, global_batch_size=6)
    second = module(urls, global_batch_size=4)
    second.load_state_dict({**first.state_dict(), "samples_consumed": 12})
    ids = [s for batch in second.train_loader(rank=0, world_size=1, steps=(2, 4)) for s in batch["sample_id"].tolist()]
    assert ids == [first.train_dataset.slot(position)[1] for position in range(12, 20)]


def test_seed_crop_and_degradation_reach_the_stream(write_shards):
    urls = write_shards("a", 9)
    streams = [module(ShardSource(urls), seed=seed).train_dataset for seed in (0, 1)]
    orders = [[stream.slot(position)[1] for position in range(9)] for stream in streams]
    assert orders[0] != orders[1]
    whole = module(ShardSource(urls), crop="resize").train_dataset[0]
    stream = ShardDataset([ShardSource(urls)], seed=0, crop="resize", crop_size=32, degradation=NoDegradation())
    np.testing.assert_array_equal(whole.hq, stream[0].hq)
    assert (whole.hq != module(ShardSource(urls)).train_dataset[0].hq).any()


def test_without_another_the_degradation_is_the_official_one(write_shards):
    found = module(ShardSource(write_shards("a", 3)), degradation=None, seed=5).train_dataset[4]
    official = RealESRGANDegradation()
    source = [ShardSource(write_shards("a", 3))]
    expected = ShardDataset(source, seed=5, crop_size=32, degradation=official)[4]
    np.testing.assert_array_equal(found.lq, expected.lq)
    np.testing.assert_array_equal(found.hq, expected.hq)


def test_validation_gives_each_sample_once_and_the_same_each_time(write_shards):
    data = module(ShardSource(write_shards("a", 3)), validation_sources=[ShardSource(write_shards("v", 7))])
    for _ in range(2):
        (loader,) = data.val_dataloader()
        assert [key for batch in loader for key in batch["key"]] == [f"v{number:04d}" for number in range(7)]


def test_a_global_batch_that_does_not_divide_names_the_numbers(write_shards):
    data = module(ShardSource(write_shards("a", 3)), global_batch_size=6, micro_batch_size=2)
    assert data.accumulation(3) == 1
    with pytest.raises(ValueError, match="global_batch_size=6"):
        data.accumulation(2)


@pytest.mark.parametrize(
    ("options", "weight", "message"), [({"crop_size": 30}, 1.0, "multiple of 4"), ({}, -1.0, "weight")]
)
def test_sources_that_cannot_be_read_as_asked_are_refused_before_a_run(write_shards, options, weight, message):
    source = ShardSource(write_shards("a", 9), weight=weight)
    with pytest.raises(ValueError, match=message):
        module(source, **options).open_sources()


@pytest.mark.parametrize(("devices", "micro"), [(1, 6), (2, 6), (4, 6), (8, 3), (12, 2), (24, 1)])
def test_a_micro_batch_that_is_not_given_is_the_largest_that_divides_a_devices_share(write_shards, devices, micro):
    data = module(ShardSource(write_shards("a", 3)), global_batch_size=24, max_micro_batch_size=7)
    assert data.accumulation(devices) * devices * micro == 24


def test_an_error_names_no_micro_batch_that_nobody_gave(write_shards):
    data = module(ShardSource(write_shards("a", 3)), global_batch_size=24, max_micro_batch_size=8)
    with pytest.raises(ValueError, match=r"global_batch_size=24 must be a positive multiple of devices=5$"):
        data.accumulation(5)


KILLED = """
import sys
from seesr_pl.data import ShardDataModule, ShardSource
if __name__ == "__main__":
    data = ShardDataModule([ShardSource(sys.argv[1])], global_batch_size=1, num_workers=2, crop_size=32)
    for batch in data.train_loader(rank=0, world_size=1, steps=(0, 10**6)):
        print("reading", flush=True)
"""


@pytest.mark.slow
def test_workers_end_when_their_run_is_killed(write_shards, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, "-W", "ignore", str(script), write_shards("a", 9)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"reading\n"
        family = descendants(run.pid)
        assert len(family) >= 3
        os.kill(run.pid, signal.SIGKILL)
        give_up = time.time() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in family - {run.pid}):
            assert time.time() < give_up
            time.sleep(0.1)


@pytest.mark.slow
def test_workers_inherit_the_noise_banks():
    built = "__import__('sys').modules['seesr_pl.degradation.noise']._normal_bank.cache_info().currsize"
    with worker_context().Pool(1, start_worker, (0,)) as pool:
        assert pool.apply(eval, (built,)) == 1


def descendants(pid: int) -> set[int]:
    found = {pid}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= descendants(int(child))
    return found
