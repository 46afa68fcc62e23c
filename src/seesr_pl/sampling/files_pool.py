"""Restoring files on several devices, each in a process of its own with its own pipeline."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import torch

from seesr_pl.models.prompts import prompter
from seesr_pl.sampling.files import Job, Outcome, Restorer
from seesr_pl.sampling.pipeline import SeeSRPipeline


class RestorerSettings(NamedTuple):
    """How a process makes its `Restorer`; `build` makes the pipeline on a device and must be picklable."""

    build: Callable[[str], SeeSRPipeline]
    call: dict[str, Any]
    seed: int
    prompter: str
    overwrite: bool
    compile: bool
    prompter_model: str | None = None

    def restorer(self, device: str, advance: Callable[[int], None]) -> Restorer:
        """The restorer of the process that has `device`."""
        pipeline = self.build(device)
        call = self.call
        if self.compile:
            pipeline.unet.compile()
            pipeline.controlnet.compile()
            call = call | {"cache": False}  # what is remembered between steps would be compiled as a constant
        style: Any = self.prompter
        own = None if style == "own" else prompter(style, ram=pipeline.ram, model=self.prompter_model)
        return Restorer(
            pipeline,
            call,
            seed=self.seed,
            prompter=own,
            prompter_name=" ".join(filter(None, (self.prompter, self.prompter_model))),
            overwrite=self.overwrite,
            advance=advance,
        )


def restore(
    jobs: Sequence[Job], settings: RestorerSettings, *, devices: Sequence[str], advance: Callable[[int], None]
) -> Iterator[Outcome]:
    """Does all `jobs` and yields what became of each; OSError where results cannot be written any more."""
    if len(devices) == 1:
        restorer = settings.restorer(devices[0], advance)
        yield from map(restorer, jobs)
        return
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for device in devices:
        queue.put(device)
    with ProcessPoolExecutor(len(devices), context, _start, (settings, queue, len(devices))) as pool:
        futures = [pool.submit(_work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                advance(settings.call["num_inference_steps"])
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Process:
    """What a process keeps between its jobs."""

    restorer: Restorer


def _start(settings: RestorerSettings, devices: Any, num_processes: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    _Process.restorer = settings.restorer(devices.get(), lambda count: None)


def _work(job: Job) -> Outcome:
    return _Process.restorer(job)
