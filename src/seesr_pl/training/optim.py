"""The learning-rate schedule of both stages, and an optimizer whose states are cut among the ranks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from seesr_pl.training.sums import num_ranks


def schedule(
    optimizer: Optimizer,
    *,
    warmup_steps: int,
    decay_steps: int | None = None,
    milestones: Sequence[int] = (),
    gamma: float = 0.5,
) -> LambdaLR:
    """Return a schedule that rises linearly over `warmup_steps` steps, from 1 / warmup_steps, then stays constant.

    With `decay_steps` it is multiplied by half a cosine that falls to zero over that many steps, counted from the
    first one. At each of `milestones` it is multiplied by `gamma`. Steps are optimizer steps.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(warmup_steps, 1))
        fall = 1.0 if decay_steps is None else 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / decay_steps))
        return rise * fall * gamma ** sum(step >= milestone for milestone in milestones)

    return LambdaLR(optimizer, factor)


def sharded(parameters: Any, *, lr: float, optimizer: type[Optimizer] = torch.optim.AdamW) -> Optimizer:
    """Return an optimizer that keeps 1 / ranks of its states on each rank: ZeRO-1 (Rajbhandari et al., 2020).

    Results are those of `optimizer`, and so is the checkpoint: a run may go on with or without, on any number of ranks.
    Each rank sends the parameters that it has updated to the others.

    Args:
        parameters: parameters or groups of them.
        lr: of groups that have none of their own.
        optimizer: the class whose states are cut.
    """
    if num_ranks() == 1:
        return optimizer(parameters, lr=lr)  # type: ignore[call-arg]  # every optimizer has one
    return ZeroRedundancyOptimizer(parameters, optimizer_class=optimizer, lr=lr)
