"""A run that is told to stop, or breaks, leaves its last completed step and says that it is unfinished."""

import os
import resource
import signal
import time

import pytest
import torch
from machine_runs import finished, global_step, prepared, shards, start, words

from seesr_pl.training.stops import Stopped

pytestmark = pytest.mark.whole

TWO = ("trainer.devices=2", "trainer.strategy=ddp")


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"))


def last(outputs):
    return outputs / "seesr" / "checkpoints" / "last.ckpt"


def same(left, right):
    first, second = (torch.load(path, weights_only=True) for path in (left, right))
    return all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in second["state_dict"])


@pytest.mark.parametrize("fault", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_ends_the_run_with_a_checkpoint(pattern, tmp_path, fault):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without it
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    with pytest.raises(Stopped, match=f"{fault}: stopped after step 3 of 9; the same command again goes on from"):
        prepared(words(pattern, tmp_path, steps=9, fault=("FaultAt", {"step": 3, "fault": fault})))()
    assert global_step(last(tmp_path)) == 3
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == handlers


def test_an_error_ends_the_run_with_a_checkpoint_and_the_end_is_that_of_a_whole_run(pattern, tmp_path):
    for outputs, fault in (("broken", ("FaultAt", {"step": 3, "fault": "raise"})), ("whole", None)):
        line = words(pattern, tmp_path / outputs, steps=5, **({"fault": fault} if fault else {}))
        if fault:
            with pytest.raises(RuntimeError, match="a fault of the test"):
                prepared(line)()
            assert global_step(last(tmp_path / outputs)) == 3
        prepared(words(pattern, tmp_path / outputs, steps=5))()
    assert same(last(tmp_path / "broken"), last(tmp_path / "whole"))


def test_a_run_whose_time_is_over_is_unfinished_and_goes_on_for_as_long_again(pattern, tmp_path):
    line = [*words(pattern, tmp_path, steps=2000), "trainer.max_time={seconds: 1}"]
    steps = []
    for _ in range(2):
        with pytest.raises(Stopped, match=r"trainer.max_time is over: stopped after step \d+ of 2000"):
            prepared(line)()
        steps.append(global_step(last(tmp_path)))
    assert 0 < steps[0] < steps[1] < 2000


def test_a_trial_writes_nothing(pattern, tmp_path):
    prepared([*words(pattern, tmp_path / "outputs", steps=5), "trainer.fast_dev_run=2"])()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), [("SIGTERM", 75), ("SIGINT", 75), ("raise", 1), ("exit", 7)])
def test_the_exit_code_says_that_the_run_is_unfinished(pattern, tmp_path, fault, code):
    got, output = finished(start(words(pattern, tmp_path, steps=9, fault=("FaultAt", {"step": 2, "fault": fault}))))
    assert got == code, output
    assert global_step(last(tmp_path)) == 2


@pytest.mark.slow
def test_a_loss_that_is_not_finite_has_an_exit_code_of_its_own(pattern, tmp_path):
    got, output = finished(
        start([*words(pattern, tmp_path, steps=9, nan=("NotANumberAt", {"step": 2, "rank": 1})), *TWO])
    )
    assert got == 3, output
    assert output.count("error: step 2: the loss of these samples is not finite") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_ranks_stops_both_at_one_step(pattern, tmp_path, rank):
    fault = ("FaultAt", {"step": 3, "fault": "SIGTERM", "rank": rank})
    got, output = finished(start([*words(pattern, tmp_path, steps=99, fault=fault), *TWO]))
    assert got == 75, output
    assert global_step(last(tmp_path)) in (3, 4)
    assert "SIGTERM: stopped after step" in output


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", ["raise", "hang", "SIGKILL"])
def test_a_rank_that_fails_or_hangs_is_named_and_the_run_ends_saved(pattern, tmp_path, fault, rank):
    line = words(pattern, tmp_path, steps=99, fault=("FaultAt", {"step": 3, "fault": fault, "rank": rank}))
    began = time.monotonic()
    got, output = finished(start([*line, *TWO, "callbacks.ranks.seconds=5"]))
    assert got != 0, output
    assert time.monotonic() - began < 90
    if fault == "hang":
        assert f"no answer from rank {rank}" in output
    if rank == 1:  # the first rank is the one that writes
        assert global_step(last(tmp_path)) == 3, output
        assert ("a fault of the test" if fault == "raise" else "after step 3, rank 0: ") in output


@pytest.mark.slow
def test_slurm_is_asked_to_start_the_job_again_once_the_state_is_saved(pattern, tmp_path):
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked; ls {last(tmp_path)} >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}
    fault = ("FaultAt", {"step": 2, "fault": "SIGUSR1"})
    process = start(
        words(pattern, tmp_path, steps=9, fault=fault), PATH=f"{tmp_path}/bin:{os.environ['PATH']}", **slurm
    )
    got, output = finished(process)
    assert got == 75, output
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 77", str(last(tmp_path))]
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_run_whose_last_step_finds_no_room_is_unfinished(pattern, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
    try:
        with pytest.raises(Stopped, match="step 2 could not be written"):
            prepared(words(pattern, tmp_path, steps=2))()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    prepared(words(pattern, tmp_path, steps=2))()
    assert global_step(last(tmp_path)) == 2


def test_whoever_handles_a_signal_already_is_called_once_the_state_is_saved(pattern, tmp_path):
    seen = []

    def queue_again(number, frame):
        seen.append((number, global_step(last(tmp_path))))
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        with pytest.raises(SystemExit) as stop:
            prepared(words(pattern, tmp_path, steps=9, fault=("FaultAt", {"step": 2, "fault": "SIGUSR2"})))()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [(signal.SIGUSR2, 2)]
    assert isinstance(stop.value.__cause__, Stopped)
