"""Shards and the stream of training pairs read from them."""

from typing import TYPE_CHECKING, Any

from seesr_pl.data.catalog import ShardSource
from seesr_pl.data.shards import ShardIndex
from seesr_pl.data.stream import ShardDataset
from seesr_pl.data.writer import ShardWriter

if TYPE_CHECKING:
    from seesr_pl.data.datamodule import ShardDataModule

__all__ = ["ShardDataModule", "ShardDataset", "ShardIndex", "ShardSource", "ShardWriter"]


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; building and reading shards must not wait for it.
    if name == "ShardDataModule":
        from seesr_pl.data.datamodule import ShardDataModule

        return ShardDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
