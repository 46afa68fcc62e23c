"""Shards and the stream of training pairs read from them. Names are imported when first used."""

from typing import TYPE_CHECKING

from seesr_pl.lazy import attributes

if TYPE_CHECKING:
    from seesr_pl.data.catalog import ShardSource
    from seesr_pl.data.datamodule import ShardDataModule
    from seesr_pl.data.shards import ShardIndex
    from seesr_pl.data.stream import ShardDataset
    from seesr_pl.data.writer import ShardWriter

__all__ = ["ShardDataModule", "ShardDataset", "ShardIndex", "ShardSource", "ShardWriter"]
__getattr__ = attributes(
    __name__,
    {
        "ShardDataModule": "datamodule",
        "ShardDataset": "stream",
        "ShardIndex": "shards",
        "ShardSource": "catalog",
        "ShardWriter": "writer",
    },
)
