"""The networks: RAM and SeeSR's UNet and ControlNet. Names are imported when first used, for a fast start."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM, RAMConfig
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack

__all__ = ["RAM", "RAMConfig", "SeeSRControlNet", "SeeSRStack", "SeeSRUNet"]
_MODULES = {"RAM": "ram", "RAMConfig": "ram", "SeeSRControlNet": "seesr", "SeeSRStack": "stack", "SeeSRUNet": "seesr"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
