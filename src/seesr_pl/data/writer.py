"""Writing shards: each is complete, with its index beside it, or absent."""

import io
import tarfile
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

from seesr_pl.data.decode import image_size
from seesr_pl.data.shards import (
    ABSENT,
    IMAGE_EXTENSIONS,
    INDEX_SUFFIX,
    REPRESENTATION_EXTENSION,
    TAGS_EXTENSION,
    Member,
    SampleEntry,
    ShardIndex,
)


class ShardWriter:
    """Writes samples into `<folder>/<prefix>-<number>.tar`, starting a new shard at `max_samples` or `max_bytes`.

    A shard appears under its final name only when it is whole; use as a context manager to finish the last one.
    An exception inside the context leaves the unfinished shard under `.tmp`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        prefix: str = "shard",
        max_samples: int = 1000,
        max_bytes: int = 1 << 30,
    ) -> None:
        if max_samples < 1 or max_bytes < 1:
            raise ValueError(f"max_samples={max_samples} and max_bytes={max_bytes} must be at least 1")
        self.folder = Path(folder)
        self.prefix = prefix
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self.num_shards = 0
        self._tar: tarfile.TarFile | None = None
        self._entries: list[SampleEntry] = []
        self._keys: set[str] = set()
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        key: str,
        image: bytes,
        *,
        extension: str,
        tags: str | None = None,
        representation: np.ndarray | None = None,
    ) -> Path | None:
        """Add a sample of encoded `image` bytes; returns the shard's path when this sample completed it.

        ValueError where the key has a dot or is taken in this shard, or the extension is not one of an image.
        """
        self._check(key, extension)
        tar = self._tar or self._open()
        width, height = image_size(image)
        entry = SampleEntry(f"{key}.{extension}", _add(tar, f"{key}.{extension}", image), width, height)
        if tags is not None:
            entry = entry._replace(tags=_add(tar, f"{key}.{TAGS_EXTENSION}", tags.encode()))
        if representation is not None:
            data = _npy_bytes(representation)
            entry = entry._replace(representation=_add(tar, f"{key}.{REPRESENTATION_EXTENSION}", data))
        self._entries.append(entry)
        self._keys.add(key)
        full = len(self._entries) >= self.max_samples or tar.offset >= self.max_bytes
        return self.finish_shard() if full else None

    @property
    def num_open(self) -> int:
        """Samples in the shard that is being written."""
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Bytes of the shard that is being written."""
        return self._tar.offset if self._tar else 0

    def finish_shard(self) -> Path | None:
        """Complete the open shard and return its path, or None where there is none."""
        if self._tar is None:
            return None
        path, unfinished = self._path(), self._path(".tmp")
        self._tar.close()
        index = ShardIndex.from_entries(self._entries)
        # The index comes first: a tar under its final name then always has one.
        temporary = self._path(INDEX_SUFFIX + ".tmp")
        temporary.write_bytes(index.to_bytes())
        temporary.replace(self._path(INDEX_SUFFIX))
        unfinished.replace(path)
        self._tar, self._entries, self._keys = None, [], set()
        self.num_shards += 1
        return path

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_shard()
        elif self._tar is not None:
            self._tar.close()

    def _path(self, suffix: str = "") -> Path:
        return self.folder / f"{self.prefix}-{self.num_shards:06d}.tar{suffix}"

    def _open(self) -> tarfile.TarFile:
        self._tar = tarfile.open(self._path(".tmp"), "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        return self._tar

    def _check(self, key: str, extension: str) -> None:
        if extension.lower() not in IMAGE_EXTENSIONS:
            raise ValueError(f"extension={extension!r} must be one of {', '.join(IMAGE_EXTENSIONS)}")
        if not key or "." in key.rsplit("/", 1)[-1]:
            raise ValueError(f"key={key!r} must be a name without a dot: webdataset ends the key at the first dot")
        if key in self._keys:
            raise ValueError(f"key={key!r} is already in shard {self._path().name}; keys must differ")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return Member(tar.offset - padded, len(data), zlib.crc32(data)) if data else ABSENT._replace(offset=tar.offset)


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
