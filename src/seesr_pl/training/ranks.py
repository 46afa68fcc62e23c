"""What the ranks of a run decide together, on their CPUs: no decision waits for work that is queued on a GPU."""

import logging
import os
import re
import threading
import time
import traceback
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed.distributed_c10d import _abort_process_group, _set_pg_timeout

from seesr_pl.training.stops import Stopped

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 10.0
_LIBRARIES = ("gloo", "NCCL")  # their errors are of another rank
_POLL_SECONDS = 0.2


class RankTimeout(Callback):
    """End the run where a rank hangs or fails: the others wait a bounded time, and the first one names it.

    Args:
        seconds: how long a rank may keep the others waiting once the first step is done; until then it is
            Lightning's half an hour, since weights are loaded and networks compiled. It must be longer than writing a
            checkpoint, and than the longest difference between the ranks' validations.
    """

    def __init__(self, *, seconds: float = 300.0) -> None:
        if seconds <= 0:
            raise ValueError(f"seconds={seconds} must be above 0")
        self.seconds = seconds
        self._is_set = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Set the time limit after the first step."""
        if is_distributed() and not self._is_set:
            # NCCL's own watchdog ends the process without a word, so the group that can name a rank is asked first.
            grace = 0.0 if dist.get_backend() == "gloo" else _ANSWER_SECONDS * 6
            _set_pg_timeout(timedelta(seconds=self.seconds + grace), dist.group.WORLD)
            _set_pg_timeout(timedelta(seconds=self.seconds), cpu_group(dist.group.WORLD))
            self._is_set = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Name the ranks that do not answer, and let the first rank save before Lightning kills it."""
        if not is_distributed() or isinstance(exception, Stopped):
            return
        launcher = trainer.strategy.launcher
        children = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
        started = list(children)
        children.clear()  # Lightning watches this list, and kills this process as soon as one of them has failed
        if any(library in str(exception) for library in _LIBRARIES):
            silent = _silent_ranks()
            _log.error("after step %d, rank %d: %s", trainer.global_step, trainer.global_rank, silent)
        elif not trainer.is_global_zero:
            traceback.print_exception(exception)
            _abort_process_group()  # closes the connections: the others need not wait for the time limit
            _wait_for_parent(trainer, self.seconds)
        for child in started:
            child.kill()
            child.wait()


def agree(value: int) -> int:
    """Return the largest `value` that a rank gives; every rank must call it at the same place of the program."""
    if not is_distributed():
        return value
    largest = torch.tensor([value])
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=cpu_group(dist.group.WORLD))
    return int(largest)


def gather(value: list[str]) -> list[str]:
    """Return the lists of all ranks as one, by rank."""
    if not is_distributed():
        return value
    parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, value, group=cpu_group(dist.group.WORLD))
    return [each for part in parts for each in part]


def is_distributed() -> bool:
    """Return whether there is a process group of several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@lru_cache(maxsize=1)
def cpu_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """Return a gloo group of the ranks of `world`, beside the group that reduces gradients, which may be NCCL's."""
    return dist.new_group(backend="gloo")


def _silent_ranks() -> str:
    """Return which ranks do not come to a barrier."""
    # The first rank asks the others and gives up in time; they would wait for it without end, so in a thread.
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(_barrier()), daemon=True)
    thread.start()
    thread.join(2 * _ANSWER_SECONDS)
    return answers[0] if answers else "no answer from rank 0"


def _barrier() -> str:
    try:
        timeout = timedelta(seconds=_ANSWER_SECONDS)
        dist.monitored_barrier(cpu_group(dist.group.WORLD), timeout=timeout, wait_all_ranks=True)
    except RuntimeError as error:
        found = re.search(r"Ranks? ([\d, ]+) failed to pass", str(error))
        return f"no answer from rank {found[1]}" if found else "a rank has closed its connection"
    return "every rank answers"


def _wait_for_parent(trainer: Trainer, seconds: float) -> None:
    """Wait until the rank that started this one has saved and ended; Lightning would kill it if this one ended."""
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    parent, end = os.getppid(), time.monotonic() + seconds
    while isinstance(environment, LightningEnvironment) and os.getppid() == parent and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
