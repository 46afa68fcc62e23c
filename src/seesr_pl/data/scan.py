"""Making and checking the index of tars that exist already."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import fsspec

from seesr_pl.data.catalog import read_index
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.shards import INDEX_SUFFIX, Member, SampleEntry, ShardIndex
from seesr_pl.data.sources import ShardSource
from seesr_pl.data.storage import RangeReader


class Damage(NamedTuple):
    """A damaged sample of a shard."""

    url: str
    key: str
    reason: str


def index_shard(url: str, source: ShardSource) -> ShardIndex:
    """Index the tar at `url` and write the index beside it; ValueError where it holds no whole sample."""
    with fsspec.open(url, "rb", **source.storage_options) as file:
        index = ShardIndex.scan(file)
    if not len(index):
        raise ValueError(f"{url} holds no whole image sample; it is not a webdataset tar of images, or is damaged")
    with fsspec.open(url + INDEX_SUFFIX, "wb", **source.storage_options) as file:
        file.write(index.to_bytes())
    return index


def verify_shard(url: str, source: ShardSource) -> Iterator[Damage | None]:
    """Check each sample against the index and decode it; yields one Damage or None for each sample, in order."""
    reader = RangeReader(num_retries=1)
    index = read_index(url, source)
    for position in range(len(index)):
        reason = _reason(url, index[position], source, reader)
        yield Damage(url, index[position].key, reason) if reason else None


def _reason(url: str, entry: SampleEntry, source: ShardSource, reader: RangeReader) -> str:
    def read(member: Member) -> bytes:
        data = reader.read(url, offset=member.offset, size=member.size, storage_options=source.storage_options)
        if zlib.crc32(data) != member.crc32:
            raise ValueError("its bytes differ from those that were indexed (CRC-32)")
        return data

    try:
        for member in (entry.tags, entry.representation):
            if member.offset:
                read(member)
        decode_rgb(read(entry.image))
    except (OSError, ValueError) as error:
        return str(error)
    return ""
