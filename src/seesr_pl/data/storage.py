"""Read byte ranges of local and remote files, with retries, and a cache of bounded size on the local disk."""

import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec.core import split_protocol, url_to_fs

from seesr_pl.files import write_whole
from seesr_pl.limits import read_file

MAX_OPEN_FILES = 64
MAX_WAIT_SECONDS = 30.0
_COUNTER = "size"
_KEPT_AFTER_EVICTION = 0.9


class RangeReader:
    """Reads byte ranges of urls; retries after a failure, `num_retries` times, waiting twice as long each time.

    A url that failed every try gets only one try from then on, until it can be read again, so that a lost shard costs
    the waits once. Only remote ranges are cached. Open files are not shared with forked processes.
    """

    def __init__(
        self, *, num_retries: int = 5, first_wait_seconds: float = 0.5, cache: "RangeCache | None" = None
    ) -> None:
        self.num_retries = num_retries
        self.first_wait_seconds = first_wait_seconds
        self.cache = cache
        self._given_up: set[str] = set()
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._pid = os.getpid()

    def read(self, url: str, *, offset: int, size: int, storage_options: Mapping[str, Any]) -> bytes:
        """Read `size` bytes at `offset`.

        Raises OSError where every try failed, ValueError where the file ends before the range does.
        """
        if not size:
            # HTTP has no empty range.
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
        """Drop a cached range whose bytes are wrong; return False where the url is not cached."""
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
            # pread uses no shared position, but a file that the parent reopens must not change what this process reads.
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


class RangeCache:
    """Keeps at most `max_bytes` bytes of ranges under `folder`; the least recently read are deleted first.

    All processes of a machine may share the folder, which must be on a local disk: a file lock orders the writers.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, url: str, *, offset: int, size: int) -> bytes | None:
        """Return the kept bytes, or None."""
        path = self._path(url, offset, size)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def put(self, url: str, data: bytes, *, offset: int) -> None:
        """Keep `data`, after deleting other ranges where needed; data larger than `max_bytes` is not kept."""
        path = self._path(url, offset, len(data))
        if len(data) > self.max_bytes or path.exists():
            return
        with self._locked() as counter:
            total = _read_number(counter) + len(data)
            if total > self.max_bytes:
                total = self._evict(int(self.max_bytes * _KEPT_AFTER_EVICTION) - len(data)) + len(data)
            # Counted before it is written: a writer killed in between leaves the count too high, never too low.
            _write_number(counter, total)
            # A range lost to a power failure is read again, so there is no need to wait for the disk.
            write_whole(path, data, durable=False)

    def drop(self, url: str, *, offset: int, size: int) -> None:
        """Delete a range, e.g. because its checksum is wrong."""
        self._path(url, offset, size).unlink(missing_ok=True)

    def _path(self, url: str, offset: int, size: int) -> Path:
        name = hashlib.blake2b(f"{url}\n{offset}\n{size}".encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _evict(self, target_bytes: int) -> int:
        """Delete the least recently read files until at most `target_bytes` remain; return the bytes that remain."""
        entries = sorted((stat.st_mtime, stat.st_size, path) for path, stat in self._files())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= target_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("??/*"):
            try:
                yield path, path.stat()
            except FileNotFoundError:
                continue

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.folder / _COUNTER, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


class EndOfFileError(ValueError):
    """A file is shorter than its index says; a retry does not help."""


def read_small(url: str, *, storage_options: Mapping[str, Any]) -> bytes:
    """Read a whole small file, local or remote.

    Raises FileNotFoundError where there is none, ValueError where a local one is larger than `limits` allows.
    """
    protocol, path = split_protocol(url)
    if protocol in (None, "file"):
        return read_file(path)
    filesystem, path = url_to_fs(url, **storage_options)
    return filesystem.cat_file(path)


def read_from(file: IO[bytes], *, offset: int, size: int) -> bytes:
    """Read a range of an open file, with one retry after a failure.

    Raises OSError where the retry fails too, ValueError where the file ends before the range does.
    """
    try:
        data = _read_at(file, offset, size)
    except OSError:
        time.sleep(0.5)
        data = _read_at(file, offset, size)
    if len(data) < size:
        raise EndOfFileError(f"the shard ends {size - len(data)} bytes before the sample does: it is truncated")
    return data


def write_small(url: str, data: bytes, *, storage_options: Mapping[str, Any]) -> None:
    """Write a small file; a local one is written whole or not at all."""
    protocol, path = split_protocol(url)
    if protocol in (None, "file"):
        write_whole(path, data)
    else:
        filesystem, path = url_to_fs(url, **storage_options)
        filesystem.pipe_file(path, data)


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    try:
        file.seek(offset)
        return file.read(size)
    except Exception as error:
        # Each client library has classes of its own for what another try may mend.
        raise OSError(f"{type(error).__name__}: {error}") from error


def _read_remote(url: str, offset: int, size: int, storage_options: Mapping[str, Any]) -> bytes:
    # fsspec keeps one instance per process, thread and set of options, so this is only a look-up.
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


def _read_number(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0) or b"0")


def _write_number(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, f"{number:<32d}".encode(), 0)
