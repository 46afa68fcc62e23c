"""Run many jobs on several devices, one process per device, with one progress count for all."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, NoReturn, TypeVar

import torch

J = TypeVar("J")
R = TypeVar("R")
Advance = Callable[[float], None]
"""Called with the amount of work done since the last call, in the unit in which the jobs are counted."""
Work = Callable[[J, Advance], R]
_POLL_SECONDS = 0.2


def run(
    jobs: Sequence[J], make: Callable[[str], Work[J, R]], *, devices: Sequence[str], advance: Advance
) -> Iterator[R]:
    """Do all `jobs` and yield their results as they come.

    Args:
        jobs: picklable if there are several devices.
        make: called once in each process with its device; returns the function that does a job. Picklable.
        devices: one process for each; a single device is used in this process.
        advance: called while the work proceeds.

    Raises what `make` or a job raised; jobs that have not started are then dropped, and files already written stay.
    """
    if len(devices) == 1:
        work = make(devices[0])
        yield from (work(job, advance) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    queue, done = context.Queue(), context.Value("d", 0.0)
    for device in devices:
        queue.put(device)
    with ProcessPoolExecutor(len(devices), context, _start, (make, queue, done, len(devices))) as pool:
        pending, told = {pool.submit(_work, job) for job in jobs}, 0.0
        try:
            while pending:
                finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                so_far = done.value
                advance(so_far - told)
                told = so_far
                yield from (future.result() for future in finished)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def devices_for(names: str, *, num_processes: int = 1) -> list[str]:
    """Return one device per process for `names`: "auto", "cpu", "cuda", or several, "cuda:0,cuda:1".

    There are `num_processes`, or one for each device named if that is more. Raises ValueError for a device that this
    machine does not have.
    """
    named = [existing_device(name) for name in names.split(",")]
    if named == ["cuda"] and num_processes > 1:
        named = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [named[index % len(named)] for index in range(max(num_processes, len(named)))]


def existing_device(name: str) -> str:
    """Return `name`; for "auto" return "cuda" if there is a GPU, otherwise "cpu".

    Raises ValueError for a device that this machine does not have.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} is not available here ({reason}); try device=auto") from error
    return name


class _Process:
    """State that a process keeps between its jobs."""

    work: Any
    done: Any


def _start(make: Callable[[str], Any], devices: Any, done: Any, num_processes: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        _Process.work = make(devices.get())
    except Exception as error:  # raised here, it would break the pool without a reason; so each job raises it
        _Process.work = functools.partial(_refuse, error)
    _Process.done = done


def _refuse(error: Exception, job: Any, advance: Advance) -> NoReturn:
    raise error


def _work(job: Any) -> Any:
    return _Process.work(job, _advance)


def _advance(amount: float) -> None:
    with _Process.done.get_lock():
        _Process.done.value += amount
