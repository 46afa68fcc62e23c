"""The networks: RAM and SeeSR's UNet and ControlNet. Names are imported when first used, for a fast start."""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM
    from seesr_pl.models.ram_networks import RAMConfig
    from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
    from seesr_pl.models.stack import SeeSRStack

__all__ = ["RAM", "RAMConfig", "SeeSRControlNet", "SeeSRStack", "SeeSRUNet"]
__getattr__ = attributes(
    __name__,
    {
        "RAM": "ram",
        "RAMConfig": "ram_networks",
        "SeeSRControlNet": "seesr",
        "SeeSRStack": "stack",
        "SeeSRUNet": "seesr",
    },
)
