"""Jobs on several devices: all done once, progress adds up, and a failure ends the rest."""

import functools
import os
import queue
import signal
import time

import pytest

from seesr_pl.imaging.tensors import existing_dtype
from seesr_pl.jobs import pool

DEVICES = [pytest.param(["cpu"], id="one"), pytest.param(["cpu", "cpu"], id="two", marks=pytest.mark.whole)]


def worker(fail_at, device):
    return functools.partial(square, fail_at)


def square(fail_at, job, advance):
    if job == fail_at:
        raise OSError(f"job {job} failed")
    advance(0.25)
    advance(0.75)
    return job * job


@pytest.mark.parametrize("devices", DEVICES)
def test_every_job_is_done_once_and_progress_adds_up(devices):
    told = []
    make = functools.partial(worker, None)
    results = list(pool.run(range(20), make, place=pool.Place(devices), advance=told.append))
    assert sorted(results) == [number**2 for number in range(20)]
    assert sum(told) == pytest.approx(20)


@pytest.mark.parametrize("devices", DEVICES)
def test_what_a_job_raises_ends_the_run(devices):
    done = []
    with pytest.raises(OSError, match="job 3 failed"):
        done.extend(
            pool.run(range(200), functools.partial(worker, 3), place=pool.Place(devices), advance=lambda amount: None)
        )
    assert len(done) < 200


def no_worker(device):
    raise ValueError(f"nothing can be made on {device}")


def test_what_the_making_of_a_worker_raises_is_raised_by_each_job(monkeypatch):
    for name in ("make", "device", "work", "done"):
        monkeypatch.setattr(pool._Process, name, None, raising=False)
    devices = queue.SimpleQueue()
    devices.put("one")
    pool._start(no_worker, devices, None, 1)  # what raises here breaks a pool
    with pytest.raises(ValueError, match=r"^nothing can be made on one$"):
        pool._work(1)


def killed(device):
    return lambda job, advance: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_with_what_to_do():
    with pytest.raises(ValueError, match=r"most likely for want of memory.*run the same command again"):
        list(pool.run(range(4), killed, place=pool.Place(["cpu", "cpu"]), advance=lambda amount: None))


def slow_worker(folder, device):
    return functools.partial(note, folder)


def note(folder, job, advance):
    """Leaves a file for each job; the first one fails."""
    if job == 0:
        raise OSError("job 0 failed")
    time.sleep(0.02)
    (folder / str(job)).touch()


@pytest.mark.whole
def test_jobs_that_have_not_begun_are_dropped_after_a_failure(tmp_path):
    make = functools.partial(slow_worker, tmp_path)
    with pytest.raises(OSError, match="job 0 failed"):
        list(pool.run(range(300), make, place=pool.Place(["cpu", "cpu"]), advance=lambda amount: None))
    assert len(list(tmp_path.iterdir())) < 200


def device_of(device):
    return functools.partial(meet, device)


def meet(device, meeting, advance):
    """Waits until as many jobs have begun as there are devices, so that no process does two; returns the device."""
    (meeting / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(meeting.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return device


@pytest.mark.whole
def test_each_process_works_on_a_device_of_its_own(tmp_path):
    devices = ["one", "two"]
    found = pool.run([tmp_path, tmp_path], device_of, place=pool.Place(devices), advance=lambda amount: None)
    assert sorted(found) == devices


def test_devices_are_named_checked_and_repeated():
    assert pool.devices_for("cpu") == ["cpu"]
    assert pool.devices_for("cpu", num_processes=3) == ["cpu"] * 3
    assert pool.devices_for("cpu,cpu") == ["cpu", "cpu"]
    with pytest.raises(ValueError, match="device=cuda:77 is not available here"):
        pool.devices_for("cuda:77")


def test_networks_have_half_precision_on_a_gpu_alone_unless_another_is_named():
    assert [existing_dtype("auto", device) for device in ("cpu", "cuda", "cuda:1")] == [
        "float32",
        *["float16"] * 2,
    ]
    assert existing_dtype("bfloat16", "cpu") == "bfloat16"
