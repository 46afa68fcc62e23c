"""Optimizers and schedules that torch does not have."""

import math
from collections.abc import Iterable, Sequence
from typing import cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def adamw8bit(
    params: Iterable[nn.Parameter],
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Optimizer:
    """AdamW whose two moments take a byte each, from bitsandbytes; raises ValueError where that is not installed."""
    try:
        import bitsandbytes
    except ImportError as error:
        raise ValueError(
            "the 8-bit optimizer needs bitsandbytes, which is not installed: pip install 'seesr-pl[8bit]', "
            "or use module.optimizer._target_=torch.optim.AdamW"
        ) from error
    optimizer = bitsandbytes.optim.AdamW8bit(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return cast(Optimizer, optimizer)


def schedule(
    optimizer: Optimizer,
    *,
    warmup_steps: int,
    decay_steps: int | None = None,
    milestones: Sequence[int] = (),
    gamma: float = 0.5,
) -> LambdaLR:
    """The learning rate rises linearly over `warmup_steps` steps, the first at 1 / warmup_steps, then stays.

    With `decay_steps` it falls to zero along half a cosine instead, over that many steps from the first on. At each of
    `milestones` it is multiplied by `gamma`. Steps are optimizer steps.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(warmup_steps, 1))
        fall = 1.0 if decay_steps is None else 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / decay_steps))
        return rise * fall * gamma ** sum(step >= milestone for milestone in milestones)

    return LambdaLR(optimizer, factor)
