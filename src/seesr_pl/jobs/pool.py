"""Share jobs among devices of this machine, or of others, with one progress count for all."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

J = TypeVar("J")
R = TypeVar("R")
Advance = Callable[[float], None]
"""Called with the amount of work done since the last call, in the unit in which the jobs are counted."""
Work = Callable[[J, Advance], R]
LOCAL = "local"
_POLL_SECONDS = 0.2


class Place(NamedTuple):
    """Where jobs are done, as `place` makes it.

    Args:
        devices: of this machine, one process for each; on other machines, the one name that each resolves for itself.
        on: "local", "slurm" with its parameters, or "dask://HOST:PORT".
        folder: seen by all machines; what a scheduler writes goes below it.
    """

    devices: Sequence[str] = ("cpu",)
    on: str = LOCAL
    folder: Path = Path()

    @property
    def alone(self) -> bool:
        """Whether the jobs are done in this process."""
        return self.on == LOCAL and len(self.devices) == 1


HERE = Place()
"""This process, on the CPU."""


class Progress:
    """Hands on to `advance` what it is called with, up to `left` in all: what is done twice counts once."""

    def __init__(self, left: float, advance: Advance) -> None:
        self.left, self.advance = left, advance

    def __call__(self, amount: float) -> None:
        """Advance by `amount`, or by what is left."""
        amount = min(amount, self.left)
        self.left -= amount
        self.advance(amount)


def place(on: str, devices: str, *, folder: Path, num_processes: int = 1) -> Place:
    """Check where jobs are to be done, before anything slow.

    Args:
        on: as of `Place`.
        devices: of this machine as of `devices_for`; of others "auto", "cpu" or "cuda", one for each worker there.
        folder: as of `Place`.
        num_processes: of this machine.

    Raises ValueError for a place or device that does not exist, ImportError where the package for it is missing.
    """
    if on == LOCAL:
        return Place(devices_for(devices, num_processes=num_processes), on, folder)
    from seesr_pl.jobs import cluster

    cluster.check(on)
    if devices not in ("auto", "cpu", "cuda") or num_processes > 1:
        raise ValueError(
            f"{on}: device={devices}, processes={num_processes} is for this machine; there give auto, cpu or cuda: "
            "each worker takes one, and how many there are is the scheduler's to say (slurm:jobs=8)"
        )
    return Place([devices], on, folder)


def run(jobs: Sequence[J], make: Callable[[str], Work[J, R]], *, place: Place, advance: Advance) -> Iterator[R]:
    """Do all `jobs` and yield their results as they come.

    Args:
        jobs: picklable, unless a single device of this machine does them.
        make: called once in each process with its device; returns the function that does a job. Picklable, as `jobs`.
        place: where; a single device of this machine is used in this process.
        advance: called while the work proceeds; by other machines, when a job is done.

    Raises what a job or `make` raised, and ValueError where a process was killed; jobs that have not started are then
    dropped, and files already written stay.
    """
    if not jobs:
        return
    if place.on != LOCAL:
        from seesr_pl.jobs import cluster

        yield from cluster.run(jobs, make, place=place, advance=advance)
    elif place.alone:
        work = make(place.devices[0])
        yield from (work(job, advance) for job in jobs)
    else:
        yield from _in_processes(jobs, make, place.devices, advance)


def results(
    pending: set[Future[tuple[R, float]]], advance: Advance, *, poll: Callable[[], float] = float
) -> Iterator[R]:
    """Yield what futures return, as they are done: a result, and the amount of work by which to advance.

    `poll` returns what has been done since its last call, and is told in no future.
    """
    while pending:
        finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        advance(poll())
        for future in finished:
            result, amount = future.result()
            advance(amount)
            yield result


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


def _in_processes(
    jobs: Sequence[J], make: Callable[[str], Work[J, R]], devices: Sequence[str], advance: Advance
) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")
    queue, done = context.Queue(), context.Value("d", 0.0)
    for device in devices:
        queue.put(device)
    told = 0.0

    def since() -> float:
        nonlocal told
        before, told = told, done.value
        return told - before

    with ProcessPoolExecutor(len(devices), context, _start, (make, queue, done, len(devices))) as pool:
        try:
            yield from results({pool.submit(_work, job) for job in jobs}, advance, poll=since)
        except BrokenProcessPool as error:
            raise ValueError(
                "one of the processes was killed, most likely for want of memory; what is written stays: run the same "
                "command again to continue, with fewer processes"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Process:
    """State that a process keeps between its jobs."""

    make: Any
    device: str
    done: Any
    work: Any = None


def _start(make: Callable[[str], Any], devices: Any, done: Any, num_processes: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    _Process.make, _Process.device, _Process.done = make, devices.get(), done


def _work(job: Any) -> tuple[Any, float]:
    if _Process.work is None:  # made here, not at the start, so that what it raises reaches the other process
        _Process.work = _Process.make(_Process.device)
    return _Process.work(job, _advance), 0.0


def _advance(amount: float) -> None:
    with _Process.done.get_lock():
        _Process.done.value += amount
