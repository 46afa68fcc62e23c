"""Solvers by name, each made for the noise schedule that a stack's own scheduler has."""

from typing import Any, Literal

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

Solver = Literal["own", "ddpm", "ddim", "unipc", "dpmpp"]
_CLASSES = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "unipc": UniPCMultistepScheduler,
    "dpmpp": DPMSolverMultistepScheduler,
}


def solver(scheduler: Any, name: Solver) -> Any:
    """A fresh scheduler of the named kind with the noise schedule of `scheduler`; "own" keeps its kind.

    UniPC (Zhao et al., 2023) and DPM-Solver++ (Lu et al., 2022) need about 20 steps where DDPM needs 50.
    """
    if name != "own" and name not in _CLASSES:
        raise ValueError(f"solver={name!r} is not one of own, {', '.join(_CLASSES)}")
    cls = type(scheduler) if name == "own" else _CLASSES[name]
    return cls.from_config(scheduler.config)
