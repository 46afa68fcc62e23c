"""Write shards: each is complete, with its index beside it, or absent."""

import io
import os
import tarfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from webdataset import TarWriter

from seesr_pl.data.decode import image_format, image_size
from seesr_pl.data.shards import (
    IMAGE_EXTENSIONS,
    INDEX_SUFFIX,
    REPRESENTATION_EXTENSION,
    TAGS_EXTENSION,
    Member,
    SampleEntry,
    ShardIndex,
)
from seesr_pl.files import write_whole


class ShardWriter:
    """Writes samples into `<folder>/<prefix>-<number>.tar`, starting a new shard at `max_samples` or `max_bytes`.

    A shard gets its final name only when it is whole. Use the writer as a context manager, which finishes the last
    shard; an exception inside the context leaves the unfinished shard as `.tmp`. Equal samples give equal files.

    `unique`: refuse a key that is in the shard already; otherwise only that of the sample before, which any reader
    would take for the same sample. Raises ValueError where `max_samples` or `max_bytes` is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        prefix: str = "shard",
        max_samples: int = 1000,
        max_bytes: int = 1 << 30,
        unique: bool = True,
    ) -> None:
        if max_samples < 1 or max_bytes < 1:
            raise ValueError(f"max_samples={max_samples} and max_bytes={max_bytes} must be at least 1")
        self.folder = Path(folder)
        self.prefix = prefix
        self.max_samples = max_samples
        self.max_bytes = max_bytes
        self.num_shards = 0
        self._file: IO[bytes] | None = None
        self._tar: TarWriter | None = None
        self._entries: list[SampleEntry] = []
        self._keys: set[str] = set()
        self.unique = unique
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        key: str,
        image: bytes,
        *,
        extension: str,
        tags: str | None = None,
        representation: np.ndarray | None = None,
        lq: bytes | None = None,
    ) -> Path | None:
        """Add a sample; return the path of the shard if this sample completed it, otherwise None.

        `image`: the bytes of an image file with this `extension` (jpg, jpeg, png, webp). `tags`: text.
        `representation`: RAM's, (n, 512). `lq`: a jpg, png or webp file, the stored low-quality image of the pair.
        Raises ValueError where the key has a dot or is in this shard already, or an image is of another format.
        """
        self._check(key, extension)
        if lq is not None and not image_format(lq):
            raise ValueError(f"key={key!r}: lq is no jpg, png or webp file")
        tar = self._tar or self._open()
        width, height = image_size(image)
        entry = SampleEntry(f"{key}.{extension}", _add(tar, key, extension, image), width, height)
        if tags is not None:
            entry = entry._replace(tags=_add(tar, key, TAGS_EXTENSION, tags.encode()))
        if representation is not None:
            data = _npy_bytes(representation)
            entry = entry._replace(representation=_add(tar, key, REPRESENTATION_EXTENSION, data))
        if lq is not None:
            lq_width, lq_height = image_size(lq)
            member = _add(tar, key, f"lq.{image_format(lq)}", lq)
            entry = entry._replace(lq=member, lq_width=lq_width, lq_height=lq_height)
        self._entries.append(entry)
        if not self.unique:
            self._keys.clear()
        self._keys.add(key)
        full = len(self._entries) >= self.max_samples or self.num_bytes >= self.max_bytes
        return self.finish_shard() if full else None

    @property
    def num_open(self) -> int:
        """Number of samples in the shard that is being written."""
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Size in bytes of the shard that is being written, so far."""
        return self._tar.tarstream.offset if self._tar else 0

    def finish_shard(self) -> Path | None:
        """Complete the open shard and return its path; return None where no shard is open."""
        if self._tar is None:
            return None
        path = self._path()
        self._close()
        # The index is written first, so that a tar with its final name always has one.
        write_whole(self._path(INDEX_SUFFIX), ShardIndex.from_entries(self._entries).to_bytes())
        self._path(".tmp").replace(path)
        self._entries, self._keys = [], set()
        self.num_shards += 1
        return path

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish_shard()
        else:
            self._close()

    def _path(self, suffix: str = "") -> Path:
        return self.folder / f"{self.prefix}-{self.num_shards:06d}.tar{suffix}"

    def _open(self) -> TarWriter:
        self._file = self._path(".tmp").open("wb")
        self._tar = TarWriter(self._file, user="", group="", mode=0o644, mtime=0, encoder=False)
        return self._tar

    def _close(self) -> None:
        """Close the tar and flush it to the disk, before it gets its final name."""
        if self._tar is None or self._file is None:
            return
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._tar = self._file = None

    def _check(self, key: str, extension: str) -> None:
        if extension.lower() not in IMAGE_EXTENSIONS:
            raise ValueError(f"extension={extension!r} must be one of {', '.join(IMAGE_EXTENSIONS)}")
        if not key or "." in key.rsplit("/", 1)[-1]:
            raise ValueError(f"key={key!r} must be a name without a dot: webdataset ends the key at the first dot")
        if key in self._keys:
            raise ValueError(f"key={key!r} is already in shard {self._path().name}; keys must differ")


def _add(tar: TarWriter, key: str, extension: str, data: bytes) -> Member:
    """Write one member and return its place: its data are the last bytes of the tar so far, padded to whole blocks."""
    tar.write({"__key__": key, extension: data})
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return Member(tar.tarstream.offset - padded, len(data), zlib.crc32(data) if data else 0)


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
