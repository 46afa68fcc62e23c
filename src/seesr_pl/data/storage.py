"""Reading byte ranges of local and remote files, patiently, with a bounded cache on the local disk."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from fsspec.core import split_protocol, url_to_fs

from seesr_pl.data.cache import RangeCache

MAX_OPEN_FILES = 64
MAX_WAIT_SECONDS = 30.0


class RangeReader:
    """Reads byte ranges of urls; tries again after a failure, waiting twice as long each time.

    A url whose tries were once used up gets a single try until it answers again, so that a vanished shard
    costs its waits once. Only remote ranges are cached. Nothing open is carried across a fork.
    """

    def __init__(
        self, *, num_retries: int = 5, first_wait_seconds: float = 0.5, cache: RangeCache | None = None
    ) -> None:
        self.num_retries = num_retries
        self.first_wait_seconds = first_wait_seconds
        self.cache = cache
        self._given_up: set[str] = set()
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._pid = os.getpid()

    def read(self, url: str, *, offset: int, size: int, storage_options: Mapping[str, Any]) -> bytes:
        """`size` bytes at `offset`; OSError where every try failed or the file ends before them."""
        if not size:
            # A range request cannot name an empty range.
            return b""
        protocol, path = split_protocol(url)
        if protocol in (None, "file"):
            return self._patiently(url, lambda: self._read_local(path, offset, size))
        kept = self.cache.get(url, offset=offset, size=size) if self.cache else None
        if kept is not None:
            return kept
        data = self._patiently(url, lambda: _read_remote(url, offset, size, storage_options))
        if self.cache:
            self.cache.put(url, data, offset=offset)
        return data

    def forget(self, url: str, *, offset: int, size: int) -> bool:
        """Drop a cached range that proved wrong; True where there was a cache to drop it from."""
        if self.cache and split_protocol(url)[0] not in (None, "file"):
            self.cache.drop(url, offset=offset, size=size)
            return True
        return False

    def _patiently(self, url: str, read: Callable[[], bytes]) -> bytes:
        num_tries = 1 if url in self._given_up else self.num_retries + 1
        for attempt in range(num_tries):
            try:
                data = read()
            except OSError as error:
                self._close(url)
                if attempt + 1 == num_tries:
                    self._given_up.add(url)
                    raise OSError(f"{url} could not be read in {num_tries} tries: {error!r}") from error
                time.sleep(min(MAX_WAIT_SECONDS, self.first_wait_seconds * 2**attempt))
            else:
                self._given_up.discard(url)
                return data
        raise AssertionError("unreachable: the last try returns or raises")

    def _read_local(self, path: str, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor(path), size, offset)
        if len(data) != size:
            raise EndOfFileError(f"{path} ends {size - len(data)} bytes before the sample does: it is truncated")
        return data

    def _descriptor(self, path: str) -> int:
        if self._pid != os.getpid():
            # pread needs no shared position, but a parent that closes and reopens must not change what we read.
            self._descriptors, self._pid = OrderedDict(), os.getpid()
        if path not in self._descriptors:
            self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._descriptors) > MAX_OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
        self._descriptors.move_to_end(path)
        return self._descriptors[path]

    def _close(self, url: str) -> None:
        descriptor = self._descriptors.pop(split_protocol(url)[1], None)
        if descriptor is not None and self._pid == os.getpid():
            os.close(descriptor)


class EndOfFileError(ValueError):
    """The file is shorter than its index says; no retry mends that."""


def read_whole(url: str, *, storage_options: Mapping[str, Any]) -> bytes:
    """The whole content of a small file."""
    filesystem, path = url_to_fs(url, **storage_options)
    return filesystem.cat_file(path)


def _read_remote(url: str, offset: int, size: int, storage_options: Mapping[str, Any]) -> bytes:
    # fsspec keeps one instance for each process, thread and set of options, so this is a look-up.
    filesystem, path = url_to_fs(url, **storage_options)
    try:
        data = filesystem.cat_file(path, start=offset, end=offset + size)
    except Exception as error:
        # Each client library has classes of its own for what another try may mend.
        raise OSError(f"{type(error).__name__}: {error}") from error
    if len(data) > size:
        raise ValueError(f"{url}: the server sent {len(data)} bytes for a range of {size}; it must support ranges")
    if len(data) < size:
        raise EndOfFileError(f"{url} ends {size - len(data)} bytes before the sample does: it is truncated")
    return data
