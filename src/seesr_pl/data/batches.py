"""Which positions of the stream make up each micro batch of each rank."""

from collections.abc import Iterator

from torch.utils.data import Sampler


class MicroBatches(Sampler[list[int]]):
    """The micro batches of one rank, from the sample `start` of the stream on, for `num_steps` optimizer steps.

    Step k takes the positions [start + k G, start + (k + 1) G): rank r the r-th of `world_size` equal slices, and
    of its slice each micro batch the next `micro_batch_size`. Its length counts from the start of the run, for a
    progress bar: `num_steps_before` steps that are not repeated are included.
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

    None is taken twice, unless there are fewer positions than ranks: Lightning ends a validation at once on a rank
    that has no batch, and the others would wait for it.
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
    """Micro batches per rank and optimizer step; ValueError where the global batch does not divide."""
    together = micro_batch_size * world_size
    if min(global_batch_size, micro_batch_size, world_size) < 1 or global_batch_size % together:
        raise ValueError(
            f"global_batch_size={global_batch_size} must be a positive multiple of "
            f"devices * micro_batch_size = {world_size} * {micro_batch_size} = {together}"
        )
    return global_batch_size // together
