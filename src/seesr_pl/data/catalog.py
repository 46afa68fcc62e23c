"""Find shards, local or remote; number all their samples from 0; write and verify their indices."""

import glob
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, Literal, NamedTuple

import fsspec
import numpy as np
from braceexpand import braceexpand
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from seesr_pl.annotations import Count, Positive
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.shards import INDEX_SUFFIX, Member, SampleEntry, ShardIndex, tag_text
from seesr_pl.data.storage import read_from, read_small, write_small
from seesr_pl.files import LeftOut, MissingFile, literal_folders

_INDEX_READERS = 16
_GLOB = "*?["


@dataclass(frozen=True)
class ShardSource:
    """Shards that belong together, e.g. one published set; ValueError for another word in `pairs`.

    `urls`: local paths or `http(s)://`, `s3://`, `gs://` urls; `{000..099}`, `{a,b}`, `*`, `?`, `[]` expand, but in the
    names of files and folders that exist under them.
    `weight`: visits of each sample in an epoch (2: two visits; 0.5: half of the samples, drawn anew each epoch).
    `name`: the source's name in messages; its manifest is `data/NAME.yaml`.
    `limit`: use only the first `limit` samples, in the order of the sorted urls.
    `pairs`: "synthetic" degrades each image, "stored" takes the LQ image that the shard holds beside it.
    `storage_options`: passed to the fsspec filesystem, e.g. `{"endpoint_url": ...}`.
    """

    urls: Sequence[str] | str
    weight: Positive = 1.0
    name: str = ""
    limit: Count | None = None
    pairs: Literal["synthetic", "stored"] = "synthetic"
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pairs not in ("synthetic", "stored"):
            raise ValueError(f"source {self.label}: pairs={self.pairs!r} must be synthetic or stored")

    @classmethod
    def missing_files(cls, urls: Sequence[str] | str, *, name: str = "") -> list[MissingFile]:
        """Return the first local pattern of `urls` that matches no file, or []; remote urls are not checked."""
        patterns = [url for text in ([urls] if isinstance(urls, str) else urls) for url in _local_or_remote(text)]
        missing = [pattern for pattern in patterns if "://" not in pattern and not glob.glob(pattern)]
        manifest = f"data/{name}.yaml" if name else "data/README.md"
        folder = missing[0].rpartition("/")[0] or "." if missing else ""
        fix = f"seesr shards build SOURCE {folder}   (SOURCE: see {manifest})"
        return [MissingFile(path=missing[0], origin=manifest, fix=fix)] if missing else []

    def shard_urls(self) -> list[str]:
        """List every shard's url, sorted within each pattern.

        Raises ValueError where a pattern matches nothing, a shard is listed twice, or there is no url.
        """
        patterns = [self.urls] if isinstance(self.urls, str) else list(self.urls)
        found = [url for pattern in patterns for url in self._expand(pattern)]
        repeated = {url for url in found if found.count(url) > 1} if len(set(found)) < len(found) else set()
        if repeated:
            raise ValueError(
                f"source {self.label}: {sorted(repeated)[0]} is listed twice; use weight to repeat samples"
            )
        if not found:
            raise ValueError(f"source {self.label} lists no url; give urls, e.g. 'shards/lsdir/*.tar'")
        return found

    @property
    def label(self) -> str:
        """Name of this source in messages."""
        return self.name or str(self.urls)

    def _expand(self, pattern: str) -> list[str]:
        matches = [match for url in _local_or_remote(pattern) for match in self._glob(url)]
        if not matches:
            raise ValueError(f"source {self.label}: no shard matches {pattern}; build shards with `seesr shards build`")
        return matches

    def _glob(self, url: str) -> list[str]:
        if "://" not in url:
            return sorted(map(os.path.abspath, glob.glob(url, recursive=True))) if glob.has_magic(url) else [url]
        if not any(character in url for character in _GLOB):
            return [url]
        filesystem, path = url_to_fs(url, **self.storage_options)
        protocol, _, _ = url.partition("://")
        remote = not isinstance(filesystem, LocalFileSystem)
        found = sorted(str(match) for match in filesystem.glob(path))
        # Some filesystems return full urls, some bare paths.
        return [f"{protocol}://{match}" if remote and "://" not in match else match for match in found]


def _local_or_remote(pattern: str) -> list[str]:
    """Expand the braces of a pattern; of a local one, not in folders that exist, whose names are escaped for globbing.

    A local file that exists under its name is meant, whatever its name.
    """
    if "://" in pattern:
        return list(braceexpand(pattern))
    path = os.path.expanduser(pattern)
    if os.path.exists(path):
        return [glob.escape(path)]
    folders, slash, rest = path.rpartition("/")
    if os.path.isdir(folders):
        return [f"{glob.escape(folders)}{slash}{name}" for name in braceexpand(rest)]
    return [literal_folders(url) for url in braceexpand(path)]


class Shard(NamedTuple):
    """A shard in use: its url, the number of its source, its index, and how many of its samples are used."""

    url: str
    source: int
    contents: ShardIndex
    num_samples: int


class Located(NamedTuple):
    """The shard of a sample, and its entry there."""

    shard: Shard
    entry: SampleEntry


class Catalog:
    """All samples of all sources, numbered from 0: by source, then by sorted shard, then in the order of the tar.

    Raises ValueError where a source has no shard, or a shard has no index.
    """

    def __init__(self, sources: Sequence[ShardSource]) -> None:
        self.sources = list(sources)
        with ThreadPoolExecutor(_INDEX_READERS) as pool:
            self.shards = [shard for number in range(len(self.sources)) for shard in self._shards(number, pool)]
        self.starts = np.concatenate([[0], np.cumsum([shard.num_samples for shard in self.shards], dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def find(self, sample: int) -> Located:
        """Find the shard and entry of a sample by its number."""
        number = int(np.searchsorted(self.starts, sample, side="right")) - 1
        shard = self.shards[number]
        return Located(shard, shard.contents[sample - int(self.starts[number])])

    def name(self, sample: int) -> str:
        """Return `shard url: key`, for messages."""
        shard, entry = self.find(sample)
        return f"{shard.url}: {entry.key}"

    def shard_sizes(self) -> list[list[int]]:
        """Count the samples taken from each shard of each source."""
        sizes: list[list[int]] = [[] for _ in self.sources]
        for shard in self.shards:
            sizes[shard.source].append(shard.num_samples)
        return sizes

    def source_range(self, sample: int) -> range:
        """Return the numbers of all samples of the source that `sample` belongs to."""
        number = int(np.searchsorted(self.starts, sample, side="right")) - 1
        members = [i for i, shard in enumerate(self.shards) if shard.source == self.shards[number].source]
        return range(int(self.starts[members[0]]), int(self.starts[members[-1] + 1]))

    def fingerprint(self) -> int:
        """Return a 63-bit hash of the samples, their order and the weights; it does not depend on the urls."""
        digest = hashlib.blake2b(digest_size=8)
        for shard in self.shards:
            source = self.sources[shard.source]
            digest.update(f"{shard.source} {source.weight!r} {shard.num_samples} ".encode())
            digest.update(b"stored " if source.pairs == "stored" else b"")
            digest.update(shard.contents.to_bytes())
        return int.from_bytes(digest.digest(), "little") >> 1

    def check_pairs(self, scale: int) -> None:
        """Raise ValueError where a sample of a source of stored pairs has no LQ image, or one of another scale."""
        for shard in self.shards:
            source = self.sources[shard.source]
            wrong = shard.contents.without_pair(scale)[: shard.num_samples] if source.pairs == "stored" else np.zeros(0)
            if wrong.any():
                entry = shard.contents[int(wrong.argmax())]
                found = f"{entry.lq_width}x{entry.lq_height} beside {entry.width}x{entry.height}"
                raise ValueError(
                    f"source {source.label}: {int(wrong.sum())} samples of {shard.url} have no LQ image of scale"
                    f" {scale}, the first {entry.key} ({found if entry.lq.offset else 'no LQ image'}); build the shards"
                    " with `seesr shards build --lq FOLDER`, set degradation.scale, or pairs=synthetic"
                )

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
    """Read the index beside the shard at `url`; raise ValueError where there is none, naming the command to make it."""
    try:
        data = read_small(url + INDEX_SUFFIX, storage_options=source.storage_options)
    except FileNotFoundError as error:
        raise ValueError(f"{url} has no index beside it; make one with `seesr shards index {url}`") from error
    except OSError as error:
        raise ValueError(
            f"{url}{INDEX_SUFFIX} cannot be read ({error}); check its address and the connection"
        ) from error
    return ShardIndex.from_bytes(data, source=url + INDEX_SUFFIX)


class Damage(NamedTuple):
    """A damaged sample: the shard's url, the sample's key, and what is wrong."""

    url: str
    key: str
    reason: str


def index_shard(url: str, source: ShardSource, *, left_out: list[LeftOut] | None = None) -> ShardIndex:
    """Index the tar at `url` and write the index beside it; raise ValueError where it holds no whole sample.

    `left_out` receives the members that belong to no sample although they are named like images or annotations.
    """
    with fsspec.open(url, "rb", **source.storage_options) as file:
        index = ShardIndex.scan(file, left_out=left_out)
    if not len(index):
        raise ValueError(f"{url} holds no whole image sample; it is not a webdataset tar of images, or is damaged")
    write_small(url + INDEX_SUFFIX, index.to_bytes(), storage_options=source.storage_options)
    return index


def verify_shard(url: str, source: ShardSource) -> Iterator[Damage | None]:
    """Check each sample against the index and decode it; yield a Damage or None for each sample, in order."""
    index = read_index(url, source)
    # One open file, read ahead by fsspec: a remote shard takes a few long requests, not two for each sample.
    with fsspec.open(url, "rb", **source.storage_options) as file:
        for entry in (index[position] for position in range(len(index))):
            reason = _reason(file, entry)
            yield Damage(url, entry.key, reason) if reason else None


def _reason(file: IO[bytes], entry: SampleEntry) -> str:
    """Return why a sample is damaged; empty where it is sound."""
    try:
        for member in (entry.tags, entry.representation):
            data = _read_member(file, member) if member.offset else b""
            if member is entry.tags:
                tag_text(data)
        for image in (entry.image, *([entry.lq] if entry.lq.offset else [])):
            decode_rgb(_read_member(file, image))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _read_member(file: IO[bytes], member: Member) -> bytes:
    data = read_from(file, offset=member.offset, size=member.size)
    if zlib.crc32(data) != member.crc32:
        raise ValueError("its bytes differ from the indexed ones (CRC-32)")
    return data
