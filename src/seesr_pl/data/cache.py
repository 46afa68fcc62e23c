"""A cache of byte ranges on the local disk, shared by all processes of a machine and bounded in size."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COUNTER = "size"
_KEPT_AFTER_EVICTION = 0.9


class RangeCache:
    """Keeps byte ranges under `folder`, at most `max_bytes` of them; the longest unread ones go first.

    Writers take turns through a file lock, so the bound holds for any number of processes. The folder must be on
    a local disk.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, url: str, *, offset: int, size: int) -> bytes | None:
        """The kept bytes, or None."""
        path = self._path(url, offset, size)
        try:
            data = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def put(self, url: str, data: bytes, *, offset: int) -> None:
        """Keep `data`, making room for it first; what is larger than the bound is not kept."""
        path = self._path(url, offset, len(data))
        if len(data) > self.max_bytes or path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        with self._locked() as counter:
            total = _read_number(counter) + len(data)
            if total > self.max_bytes:
                total = self._evict(int(self.max_bytes * _KEPT_AFTER_EVICTION) - len(data)) + len(data)
            # Counted before it is written: a writer killed in between leaves the count too high, never too low.
            _write_number(counter, total)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(data)
            temporary.replace(path)

    def drop(self, url: str, *, offset: int, size: int) -> None:
        """Forget a range, e.g. because its checksum is wrong."""
        self._path(url, offset, size).unlink(missing_ok=True)

    def _path(self, url: str, offset: int, size: int) -> Path:
        name = hashlib.blake2b(f"{url}\n{offset}\n{size}".encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _evict(self, target_bytes: int) -> int:
        """Delete the longest unread files until at most `target_bytes` remain; returns what remains."""
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


def _read_number(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0) or b"0")


def _write_number(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, f"{number:<32d}".encode(), 0)
