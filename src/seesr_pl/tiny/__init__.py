"""The guest house: networks, photographs and training of a size that a laptop can handle; the core never imports it.

Names are imported when first used, for a fast start.
"""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.tiny.leaves import leaf_shards
    from seesr_pl.tiny.stack import tiny_ram, tiny_stack
    from seesr_pl.tiny.tiles import photo_shards
    from seesr_pl.tiny.training import TinyPrior, TinyTagging, in_decibels

__all__ = ["TinyPrior", "TinyTagging", "in_decibels", "leaf_shards", "photo_shards", "tiny_ram", "tiny_stack"]
__getattr__ = attributes(
    __name__,
    {
        "TinyPrior": "training",
        "TinyTagging": "training",
        "in_decibels": "training",
        "leaf_shards": "leaves",
        "photo_shards": "tiles",
        "tiny_ram": "stack",
        "tiny_stack": "stack",
    },
)
