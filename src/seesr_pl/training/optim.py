"""The learning-rate schedule of both stages."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


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
