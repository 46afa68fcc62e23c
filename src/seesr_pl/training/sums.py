"""Values that are summed over the ranks of a run, all that a step logs in one collective."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from seesr_pl.training.ranks import is_distributed


class RankSums:
    """Collects tensors and sums them over the ranks, on their device and without a barrier.

    Every rank must add the same values at the same steps.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Callable[[Tensor], None]]] = []

    def add(self, values: Tensor, then: Callable[[Tensor], None]) -> None:
        """Keep `values` until `reduce`, which calls `then` with their float32 sums over the ranks."""
        self._waiting.append((values.detach().float(), then))

    def reduce(self) -> None:
        """Sum all that was added, in one collective; do nothing where nothing was."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        together = torch.cat([values.flatten() for values, _ in waiting])
        if is_distributed():
            dist.all_reduce(together)
        parts = together.split([values.numel() for values, _ in waiting])
        for (values, then), part in zip(waiting, parts, strict=True):
            then(part.view(values.shape))


def num_ranks() -> int:
    """Return the number of ranks, 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1
