"""Loaders: the stream positions of each batch of each rank, and the worker processes that read them."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from seesr_pl.data.stream import ShardDataset, StreamSample, collate


class PositionedLoader(DataLoader[StreamSample]):
    """Loads `batches`, lists of positions of a stream, in `num_workers` processes; yields a `Batch` for each.

    Having `state_dict`, it tells Lightning that it can be resumed; the position itself is in the data module's state.
    """

    def __init__(
        self, dataset: ShardDataset, batches: Sampler[list[int]], *, num_workers: int, prefetch_factor: int
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
            multiprocessing_context=worker_context() if num_workers else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return {}: the data module saves the position."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Accept the empty state that `state_dict` returned."""
        assert not state_dict, "the position is saved by the data module"


class MicroBatches(Sampler[list[int]]):
    """The micro batches of one rank for `num_steps` optimizer steps, beginning at the position `start` of the stream.

    Step k takes the positions [start + k G, start + (k + 1) G), where G is the global batch size; rank r takes the
    r-th of `world_size` equal slices and cuts it into micro batches. The length includes `num_steps_before`, the steps
    that a resumed run has already done, as Lightning's progress bar expects.
    """

    def __init__(
        self,
        *,
        start: int,
        num_steps: int,
        num_steps_before: int = 0,
        global_batch_size: int,
        micro_batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.start = start
        self.num_steps = num_steps
        self.num_steps_before = num_steps_before
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.rank = rank
        self.accumulation = accumulation(global_batch_size, micro_batch_size, world_size=world_size)

    def __len__(self) -> int:
        return (self.num_steps_before + self.num_steps) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.num_steps):
            first = self.start + step * self.global_batch_size
            first += self.rank * self.accumulation * self.micro_batch_size
            for number in range(self.accumulation):
                begin = first + number * self.micro_batch_size
                yield list(range(begin, begin + self.micro_batch_size))


class RankBatches(Sampler[list[int]]):
    """One rank's batches of the positions 0 .. num_positions - 1: rank r takes r, r + world_size, ...

    No position is taken twice unless there are fewer positions than ranks: a rank without a batch would finish
    validation at once while the others wait for it.
    """

    def __init__(self, num_positions: int, batch_size: int, *, rank: int, world_size: int) -> None:
        first = rank % num_positions if num_positions else rank
        self.positions = range(first, num_positions, world_size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.positions) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self.positions), self.batch_size):
            yield list(self.positions[first : first + self.batch_size])


def accumulation(global_batch_size: int, micro_batch_size: int, *, world_size: int) -> int:
    """Count the micro batches per rank and optimizer step.

    Raises ValueError unless the global batch size is a positive multiple of devices times micro batch size.
    """
    together = micro_batch_size * world_size
    if min(global_batch_size, micro_batch_size, world_size) < 1 or global_batch_size % together:
        raise ValueError(
            f"global_batch_size={global_batch_size} must be a positive multiple of "
            f"devices * micro_batch_size = {world_size} * {micro_batch_size} = {together}"
        )
    return global_batch_size // together


def largest_micro_batch(global_batch_size: int, most: int | None, *, world_size: int) -> int:
    """Return the largest size of at most `most` samples that divides the share of each of `world_size` devices.

    Raises ValueError where the global batch has no equal shares.
    """
    if min(global_batch_size, world_size) < 1 or global_batch_size % world_size:
        raise ValueError(f"global_batch_size={global_batch_size} must be a positive multiple of devices={world_size}")
    share = global_batch_size // world_size
    return max(size for size in range(1, max(1, min(share, most or share)) + 1) if share % size == 0)


def worker_context() -> BaseContext:
    """Return the context that forks workers from a server process with the imports done and the noise banks built.

    Workers forked from the training process would inherit the locks of its threads: OpenCV would hang in them once the
    training process had used it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["seesr_pl.data.loader", "seesr_pl.degradation.prebuilt_noise"])
    return context


def start_worker(worker: int) -> None:
    """Limit this worker to one thread, since workers share the cores, and end it when the training process ends."""
    del worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this process when the training process has ended, even if it was killed.

    PyTorch's own watchdog watches the parent, which is the fork server here, and the fork server lives as long as its
    workers: a killed run would leave both running.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
