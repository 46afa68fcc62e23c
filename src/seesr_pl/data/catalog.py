"""All samples of all sources under one numbering, from the indices beside the shards."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from seesr_pl.data.shards import INDEX_SUFFIX, SampleEntry, ShardIndex
from seesr_pl.data.sources import ShardSource
from seesr_pl.data.storage import read_whole

_INDEX_READERS = 16


class Shard(NamedTuple):
    """A shard in use: where it is, its source's number, its index, and how many of its samples are taken."""

    url: str
    source: int
    contents: ShardIndex
    num_samples: int


class Located(NamedTuple):
    """Where a sample lies."""

    shard: Shard
    entry: SampleEntry


class Catalog:
    """Numbers the samples 0.. through the sources, their sorted shards and the tars; finds each by its number."""

    def __init__(self, sources: Sequence[ShardSource]) -> None:
        self.sources = list(sources)
        with ThreadPoolExecutor(_INDEX_READERS) as pool:
            self.shards = [shard for number in range(len(self.sources)) for shard in self._shards(number, pool)]
        self.starts = np.concatenate([[0], np.cumsum([shard.num_samples for shard in self.shards], dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def find(self, sample: int) -> Located:
        """The shard and entry of a sample."""
        number = int(np.searchsorted(self.starts, sample, side="right")) - 1
        shard = self.shards[number]
        return Located(shard, shard.contents[sample - int(self.starts[number])])

    def name(self, sample: int) -> str:
        """`shard url: key`, for messages."""
        shard, entry = self.find(sample)
        return f"{shard.url}: {entry.key}"

    def shard_sizes(self) -> list[list[int]]:
        """Samples taken from each shard of each source."""
        sizes: list[list[int]] = [[] for _ in self.sources]
        for shard in self.shards:
            sizes[shard.source].append(shard.num_samples)
        return sizes

    def source_range(self, sample: int) -> range:
        """The numbers of all samples of the source that `sample` belongs to."""
        number = int(np.searchsorted(self.starts, sample, side="right")) - 1
        members = [i for i, shard in enumerate(self.shards) if shard.source == self.shards[number].source]
        return range(int(self.starts[members[0]]), int(self.starts[members[-1] + 1]))

    def fingerprint(self) -> int:
        """63 bits that stand for the samples, their order and the weights, wherever the shards are stored."""
        digest = hashlib.blake2b(digest_size=8)
        for shard in self.shards:
            weight = self.sources[shard.source].weight
            digest.update(f"{shard.source} {weight!r} {shard.num_samples} ".encode())
            digest.update(shard.contents.to_bytes())
        return int.from_bytes(digest.digest(), "little") >> 1

    def _shards(self, number: int, pool: ThreadPoolExecutor) -> list[Shard]:
        source = self.sources[number]
        urls = source.shard_urls()
        left = source.limit
        shards: list[Shard] = []
        for url, index in zip(urls, pool.map(lambda url: read_index(url, source), urls), strict=True):
            taken = len(index) if left is None else min(left, len(index))
            left = None if left is None else left - taken
            if taken:
                shards.append(Shard(url, number, index, taken))
        return shards


def read_index(url: str, source: ShardSource) -> ShardIndex:
    """The index beside a shard; ValueError, with the command that makes one, where there is none."""
    try:
        data = read_whole(url + INDEX_SUFFIX, storage_options=source.storage_options)
    except FileNotFoundError as error:
        raise ValueError(f"{url} has no index beside it; make one with `seesr shards index {url}`") from error
    return ShardIndex.from_bytes(data, source=url + INDEX_SUFFIX)
