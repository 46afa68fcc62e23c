"""The order of an epoch, computed block by block from the seed and the epoch alone.

The shards are permuted, then the samples of each block of 16 neighboring shards are shuffled together. A reader thus
has few shards open at a time, and no process holds the whole order.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from seesr_pl.keyed import numpy_generator

SHARDS_PER_BLOCK = 16
_MAX_REMEMBERED = 4
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Run(NamedTuple):
    """One visit of a shard in an epoch: `taken` of its `size` samples, the first of which has the number `start`.

    Where `taken` is below `size`, the samples are a random choice keyed by the seed and the epoch. `copy` numbers the
    visits of the shard in the epoch, from 0.
    """

    start: int
    size: int
    taken: int
    copy: int


class EpochOrder:
    """Maps a position in an epoch to a sample id, which stands for the sample and the number of its visit.

    `shard_sizes[s][i]` is the number of samples of shard i of source s; `weights[s]` is how often an epoch visits each
    sample of source s; samples are numbered from 0 through all shards of all sources. Weight 2.5 visits every sample
    twice, and half of them, drawn anew each epoch, once more. Every epoch has the same length.

    Raises ValueError for a weight of 0 or less, or where an epoch would be empty.
    """

    def __init__(self, shard_sizes: Sequence[Sequence[int]], weights: Sequence[float], *, seed: int) -> None:
        if any(weight <= 0 for weight in weights):
            raise ValueError(f"weights={list(weights)} must be above 0; leave a source out instead")
        self.seed = seed
        self.num_samples = sum(map(sum, shard_sizes))
        self.runs = _runs(shard_sizes, weights)
        self.length = sum(run.taken for run in self.runs)
        if self.length == 0:
            raise ValueError("the sources hold no sample; check their urls and weights")
        self._layouts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._blocks: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return self.length

    def slot(self, epoch: int, position: int) -> int:
        """Return the sample id at `position` of `epoch`: `sample + copy * num_samples`, unique in the epoch."""
        _, starts = _remembered(self._layouts, epoch, lambda: self._layout(epoch))
        block = int(np.searchsorted(starts, position, side="right")) - 1
        slots = _remembered(self._blocks, (epoch, block), lambda: self._block(epoch, block))
        return int(slots[position - int(starts[block])])

    def _layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the permuted runs of an epoch and the position at which each block of them begins."""
        runs = numpy_generator(self.seed, epoch, "shards").permutation(len(self.runs))
        counts = np.array([self.runs[run].taken for run in runs], dtype=np.int64)
        ends = np.cumsum(counts)
        return runs, np.concatenate([[0], ends[SHARDS_PER_BLOCK - 1 : -1 : SHARDS_PER_BLOCK]])

    def _block(self, epoch: int, block: int) -> np.ndarray:
        runs, _ = self._layouts[epoch]
        members = runs[block * SHARDS_PER_BLOCK : (block + 1) * SHARDS_PER_BLOCK]
        slots = np.concatenate([self._slots(epoch, int(run)) for run in members])
        return numpy_generator(self.seed, epoch, "block", block).permutation(slots)

    def _slots(self, epoch: int, number: int) -> np.ndarray:
        run = self.runs[number]
        chosen = np.arange(run.size)
        if run.taken < run.size:
            chosen = numpy_generator(self.seed, epoch, "choice", number).permutation(run.size)[: run.taken]
        return run.start + chosen + run.copy * self.num_samples


def _remembered(memory: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """Return `memory[key]`, made if it is not there; a full memory is emptied first."""
    if key not in memory:
        if len(memory) >= _MAX_REMEMBERED:
            memory.clear()
        memory[key] = make()
    return memory[key]


def _runs(shard_sizes: Sequence[Sequence[int]], weights: Sequence[float]) -> list[Run]:
    runs: list[Run] = []
    first = 0
    for sizes, weight in zip(shard_sizes, weights, strict=True):
        copies, fraction = int(weight), weight - int(weight)
        seen = 0
        for size in sizes:
            runs += [Run(first, size, size, copy) for copy in range(copies)]
            # Rounding the running total, not each shard's share, keeps the epoch's length right for small shards.
            share = round(fraction * (seen + size)) - round(fraction * seen)
            runs.append(Run(first, size, share, copies))
            first, seen = first + size, seen + size
    return [run for run in runs if run.taken]
