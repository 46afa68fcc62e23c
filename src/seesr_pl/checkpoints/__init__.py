"""Weights: the published files, which of them are missing, conversion from and to their formats, the whole stack.

Names are imported when first used: a command that finds a file missing says so at once.
"""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.checkpoints.stack import load_stack, official_ram, random_stack
    from seesr_pl.models.ram_official import dape_state_dict, load_dape, load_ram, ram_state_dict

__all__ = [
    "dape_state_dict",
    "load_dape",
    "load_ram",
    "load_stack",
    "official_ram",
    "ram_state_dict",
    "random_stack",
]
__getattr__ = attributes(
    __name__,
    {
        "dape_state_dict": "seesr_pl.models.ram_official",
        "load_dape": "seesr_pl.models.ram_official",
        "load_ram": "seesr_pl.models.ram_official",
        "load_stack": "stack",
        "official_ram": "stack",
        "ram_state_dict": "seesr_pl.models.ram_official",
        "random_stack": "stack",
    },
)
