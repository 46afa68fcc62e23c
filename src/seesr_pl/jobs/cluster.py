"""Do jobs on other machines: as tasks of a Dask cluster, or in Slurm jobs that submitit writes.

All machines have this package, and see the files of the jobs under the same names.
"""

import os
import pickle
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seesr_pl.data.build import Crew
from seesr_pl.files import write_whole
from seesr_pl.jobs.pool import Advance, Place, Work, existing_device, results

J = TypeVar("J")
R = TypeVar("R")
_DASK, _SLURM = "dask://", "slurm"
_POLL_SECONDS = 0.5
# Parameters that submitit's executors share; its others are those of Slurm.
_SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
_DEFAULTS: dict[str, Any] = {"name": "seesr", "timeout_min": 720, "cpus_per_task": 4, "jobs": 8, "cluster": "slurm"}
# A Slurm job takes seconds to start, a task of Dask a millisecond.
_INPUTS_PER_SLURM_JOB, _INPUTS_PER_TASK, _TASKS_PER_THREAD = 256, 8, 4


def check(on: str) -> None:
    """Raise ValueError where `on` names no place, ImportError where the package for it is missing."""
    if on.startswith(_DASK):
        _require("distributed", "dask")
        if not re.fullmatch(rf"{_DASK}[^/]+:\d+", on):
            raise ValueError(f"{on}: expected dask://HOST:PORT, the address that `dask scheduler` prints")
    elif on.partition(":")[0] == _SLURM:
        _require("submitit", "slurm")
        _parameters(on)
    else:
        raise ValueError(f"{on!r} is no place for jobs; known: local, slurm:partition=NAME:jobs=8, dask://HOST:PORT")


def run(jobs: Sequence[J], make: Callable[[str], Work[J, R]], *, place: Place, advance: Advance) -> Iterator[R]:
    """Do `jobs` on other machines; arguments, results and errors as of `pool.run`."""
    maker = _Maker(pickle.dumps(make), place.devices[0], os.getcwd())
    if place.on.startswith(_DASK):
        with _dask(place.on) as executor:
            yield from results({executor.submit(_do, maker, job) for job in jobs}, advance)
    else:
        yield from _in_slurm_jobs(jobs, maker, place, advance)


@contextmanager
def crew(place: Place) -> Iterator[Crew]:
    """Give a build of shards the executor of other machines, as long as the context lasts."""
    if place.on.startswith(_DASK):
        with _dask(place.on) as executor:
            workers = executor._client.scheduler_info(-1)["workers"].values()
            tasks = _TASKS_PER_THREAD * max(1, sum(worker["nthreads"] for worker in workers))
            yield Crew(partial(executor.submit, _there, os.getcwd()), tasks, _INPUTS_PER_TASK)
    else:
        with _slurm(place._replace(devices=["cpu"])) as executor:
            submit = partial(executor.submit, _there, os.getcwd())
            yield Crew(submit, _parameters(place.on)["jobs"], _INPUTS_PER_SLURM_JOB)


class _Maker(NamedTuple):
    """Makes what does the jobs, once in each process of another machine, in the folder of the command."""

    make: bytes
    device: str
    folder: str

    def made(self) -> Work[Any, Any]:
        os.chdir(self.folder)
        if self not in _made:
            _made.clear()  # the networks of the command before
            _made[self] = pickle.loads(self.make)(existing_device(self.device))
        return _made[self]


_made: dict[_Maker, Work[Any, Any]] = {}
_one_at_a_time = threading.Lock()


def _do(maker: _Maker, job: Any) -> tuple[Any, float]:
    amounts: list[float] = []
    with _one_at_a_time:  # a worker of Dask has threads; networks do not
        return maker.made()(job, amounts.append), sum(amounts)


def _there(folder: str, function: Callable[..., R], *arguments: Any) -> R:
    os.chdir(folder)
    return function(*arguments)


@contextmanager
def _dask(on: str) -> Iterator[Any]:
    from distributed import Client, KilledWorker

    try:
        client = Client(f"tcp://{on.removeprefix(_DASK)}", timeout=20)
    except OSError as error:
        raise ValueError(f"{on}: no scheduler answers there ({error})") from None
    with client:
        if not client.scheduler_info(-1)["workers"]:
            warnings.warn(f"{on} has no worker yet; the jobs wait for one", stacklevel=2)
        try:
            yield client.get_executor(pure=False)
        except KilledWorker as error:
            raise ValueError(
                f"{on}: several workers died, most likely for want of memory ({error}); what is written stays: run the "
                "same command again to continue"
            ) from error


class _Part:
    """The jobs of one Slurm job; each result is a file, so that a part which is queued again does no job twice."""

    def __init__(self, jobs: Sequence[tuple[int, Any]], maker: _Maker, folder: Path) -> None:
        self.jobs, self.maker, self.folder = jobs, maker, folder

    def __call__(self) -> None:
        for number, job in self.jobs:
            path = self.folder / f"{number}.pkl"
            if not path.is_file():
                try:
                    done: Any = _do(self.maker, job)
                except Exception as error:  # raised once more where the command runs
                    done = error
                write_whole(path, pickle.dumps(done), durable=False)
                if isinstance(done, Exception):
                    return

    def checkpoint(self) -> Any:
        """Called by submitit before the time is up or on preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _in_slurm_jobs(jobs: Sequence[J], maker: _Maker, place: Place, advance: Advance) -> Iterator[Any]:
    numbered, count = list(enumerate(jobs)), min(_parameters(place.on)["jobs"], len(jobs))
    with _slurm(place) as executor:
        told = Path(executor.folder) / "told"
        told.mkdir()
        with executor.batch():
            parts = [executor.submit(_Part(numbered[first::count], maker, told)) for first in range(count)]
        seen: set[str] = set()
        try:
            while len(seen) < len(jobs):
                ended = all(part.done() for part in parts)  # asked before the files are listed
                for name in sorted(set(os.listdir(told)) - seen):
                    if name.endswith(".pkl") and not name.startswith("."):
                        seen.add(name)
                        result, amount = _result(pickle.loads((told / name).read_bytes()))
                        advance(amount)
                        yield result
                if ended and len(seen) < len(jobs):
                    raise ValueError(_lost(parts, len(jobs) - len(seen)))
                time.sleep(0 if ended else _POLL_SECONDS)
        finally:
            for part in parts:
                if not part.done():
                    part.cancel(check=False)


def _result(done: Any) -> tuple[Any, float]:
    if isinstance(done, Exception):
        raise done
    return done


def _lost(parts: Sequence[Any], missing: int) -> str:
    failed = [part for part in parts if part.exception() is not None] or list(parts)
    return (
        f"{missing} jobs have no result: Slurm job {failed[0].job_id} ended before its time; its errors are in "
        f"{failed[0].paths.stderr}. What is written stays: run the same command again to continue"
    )


@contextmanager
def _slurm(place: Place) -> Iterator[Any]:
    """Give submitit's executor with a folder of its own, which stays if anything fails."""
    from submitit import AutoExecutor

    parameters = {"gpus_per_node": 0 if place.devices[0] == "cpu" else 1, **_parameters(place.on)}
    cluster, _ = parameters.pop("cluster"), parameters.pop("jobs")
    (place.folder / ".slurm").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=time.strftime("%m%d-%H%M%S-"), dir=place.folder / ".slurm"))
    named = {name if name in _SHARED else f"slurm_{name}": value for name, value in parameters.items()}
    try:
        executor = AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=100)
        executor.update_parameters(**named)
    except (RuntimeError, ValueError, NameError, AssertionError) as error:
        shutil.rmtree(folder)
        raise ValueError(f"{place.on}: {error}") from error
    yield executor
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # that of the last command


def _parameters(on: str) -> dict[str, Any]:
    """Read "slurm:NAME=VALUE:NAME=VALUE"; a value may hold colons, as gres=gpu:a100:1 does."""
    found: dict[str, Any] = dict(_DEFAULTS)
    for word in re.split(r":(?=\w+=)", on)[1:]:
        name, _, value = word.partition("=")
        found[name] = int(value) if value.isdecimal() else value
    if on.count(":") and len(re.split(r":(?=\w+=)", on)) == 1:
        raise ValueError(f"{on}: expected slurm:NAME=VALUE:NAME=VALUE, such as slurm:partition=gpu:jobs=8")
    if not isinstance(found["jobs"], int) or found["jobs"] < 1:
        raise ValueError(f"{on}: jobs={found['jobs']} must be a number, at least 1")
    return found


def _require(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise ImportError(f"this needs the package {package}: pip install 'seesr-pl[{extra}]'")
