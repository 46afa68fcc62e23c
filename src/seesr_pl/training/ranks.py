"""What the ranks of a run decide together, on their CPUs: no decision waits for work that is queued on a GPU."""

from functools import lru_cache

import torch
import torch.distributed as dist


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
