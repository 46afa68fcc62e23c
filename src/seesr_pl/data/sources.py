"""Where shards come from: lists of urls with braces and globs, local or remote."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from braceexpand import braceexpand
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from seesr_pl.files import MissingFile

_GLOB = "*?["


@dataclass(frozen=True)
class ShardSource:
    """Shards that belong together, e.g. one published set.

    `urls`: paths or `http(s)://`, `s3://`, `gs://` urls; `{000..099}` and `{a,b}` are expanded, then `*`, `?`, `[]`.
    `weight`: how often an epoch visits each sample (2: twice; 0.5: another half each epoch).
    `limit`: take only the first so many samples, in the order of the sorted urls.
    `storage_options`: passed to the fsspec filesystem, e.g. `{"endpoint_url": ...}`.
    """

    urls: Sequence[str] | str
    weight: float = 1.0
    name: str = ""
    limit: int | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def missing_files(cls, urls: Sequence[str] | str, *, name: str = "") -> list[MissingFile]:
        """The first local pattern of `urls` that matches no file; remote ones are not looked up."""
        patterns = [url for text in ([urls] if isinstance(urls, str) else urls) for url in braceexpand(text)]
        missing = [pattern for pattern in patterns if "://" not in pattern and not glob.glob(pattern)]
        manifest = f"data/{name}.yaml" if name else "data/README.md"
        folder = missing[0].rpartition("/")[0] or "." if missing else ""
        fix = f"seesr shards build SOURCE {folder}   (SOURCE: see {manifest})"
        return [MissingFile(path=missing[0], origin=manifest, fix=fix)] if missing else []

    def shard_urls(self) -> list[str]:
        """Every shard of this source, sorted within each pattern; ValueError where a pattern matches nothing."""
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
        """What messages call this source."""
        return self.name or str(self.urls)

    def _expand(self, pattern: str) -> list[str]:
        matches = [match for url in braceexpand(pattern) for match in self._glob(url)]
        if not matches:
            raise ValueError(f"source {self.label}: no shard matches {pattern}; build shards with `seesr shards build`")
        return matches

    def _glob(self, url: str) -> list[str]:
        if not any(character in url for character in _GLOB):
            return [url]
        filesystem, path = url_to_fs(url, **self.storage_options)
        protocol, _, _ = url.partition("://")
        remote = "://" in url and not isinstance(filesystem, LocalFileSystem)
        found = sorted(str(match) for match in filesystem.glob(path))
        # Some filesystems return full urls, some bare paths.
        return [f"{protocol}://{match}" if remote and "://" not in match else match for match in found]
