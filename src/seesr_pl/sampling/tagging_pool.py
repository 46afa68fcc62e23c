"""Several processes that tag, each with its own network, on the GPUs there are or on the CPU."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seesr_pl.models import ram_files, ram_official
from seesr_pl.models.ram import RAM
from seesr_pl.sampling.tagging import Job, Tagger, do

_POLL_SECONDS = 0.2


class TaggerSettings(NamedTuple):
    """How a process makes its tagger. `ram` is an official file or a folder of `RAM.save_pretrained`."""

    ram: Path
    dape: Path | None
    tag_list: Path | None
    thresholds: Path | None
    representation: bool
    batch_size: int
    device: str

    def tagger(self, rank: int = 0) -> Tagger:
        """The tagger of process `rank`; device "cuda" stands for the GPU of that number, modulo the GPUs there are."""
        device = f"cuda:{rank % torch.cuda.device_count()}" if self.device == "cuda" else self.device
        return Tagger(self._ram().to(device), representation=self.representation)

    def _ram(self) -> RAM:
        if self.ram.is_dir():
            ram = RAM.from_pretrained(self.ram)
            if self.dape is not None:
                ram_official.load_dape(ram, ram_files.read_published(self.dape))
            return ram
        return RAM.from_official(self.ram, self.dape, tag_list=self.tag_list, thresholds=self.thresholds)


def tag(
    jobs: Sequence[Job], settings: TaggerSettings, *, num_processes: int, advance: Callable[[int], None]
) -> list[str]:
    """Do all `jobs`, calling `advance` with the pictures done since the last call; returns what was not decoded.

    A job that fails ends the run; finished targets stay, so that the same call goes on where it stopped.
    """
    if num_processes == 1:
        tagger = settings.tagger()
        batch_size = settings.batch_size
        return [name for job in jobs for name in do(job, tagger, batch_size=batch_size, advance=advance)]
    context = multiprocessing.get_context("spawn")
    ranks, done = context.Value("q", 0), context.Value("q", 0)
    arguments = (settings, num_processes, ranks, done)
    with ProcessPoolExecutor(num_processes, context, _start, arguments) as pool:
        futures = [pool.submit(_work, job) for job in jobs]
        told, pending = 0, set(futures)
        while pending:
            finished, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            told = _tell(advance, done.value, told)
            if any(future.exception() for future in finished):
                pool.shutdown(cancel_futures=True)
                break
    return [name for future in futures for name in future.result()]


def _tell(advance: Callable[[int], None], done: int, told: int) -> int:
    advance(done - told)
    return done


class _Process:
    """What a process of the pool keeps between its jobs."""

    tagger: Tagger
    batch_size: int
    done: Any


def _start(settings: TaggerSettings, num_processes: int, ranks: Any, done: Any) -> None:
    with ranks.get_lock():
        rank = ranks.value
        ranks.value += 1
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    _Process.tagger, _Process.batch_size, _Process.done = settings.tagger(rank), settings.batch_size, done


def _work(job: Job) -> list[str]:
    return do(job, _Process.tagger, batch_size=_Process.batch_size, advance=_advance)


def _advance(count: int) -> None:
    with _Process.done.get_lock():
        _Process.done.value += count
