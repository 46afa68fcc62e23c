"""How large an image or a file may be that is read, the same for every reader: small files can claim any size."""

import os
import tarfile
from pathlib import Path
from typing import IO, Self

MAX_PIXELS = int(os.environ.get("SEESR_MAX_PIXELS", "89_478_485"))
"""Pixels of an image; the default is Pillow's own limit. Checked from the header, before anything is decoded."""
MAX_BYTES = int(float(os.environ.get("SEESR_MAX_MEGABYTES", "256")) * 2**20)
"""Bytes of an image, a text or an index, in a file of its own or in an archive."""
_MAX_NAME_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def check_pixels(width: int, height: int, name: str) -> None:
    """Raise ValueError, which begins with `name`, for an image of more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name} has {width}x{height} pixels; the limit is {MAX_PIXELS} in all (SEESR_MAX_PIXELS=NUMBER sets it)"
        )


def check_bytes(size: int, name: str) -> None:
    """Raise ValueError, which begins with `name`, for a size of more than MAX_BYTES."""
    if size > MAX_BYTES:
        raise ValueError(
            f"{name} has {size:,} bytes; the limit is {MAX_BYTES / 2**20:g} MiB (SEESR_MAX_MEGABYTES=NUMBER sets it)"
        )


def read_file(path: str | Path) -> bytes:
    """Read a whole file. Raises ValueError where it has more than MAX_BYTES, OSError where it cannot be read."""
    with Path(path).open("rb") as file:
        return read_stream(file, size=os.fstat(file.fileno()).st_size, name=str(path))


def read_stream(stream: IO[bytes], *, size: int, name: str) -> bytes:
    """Read to the end of a file or a member of an archive that claims `size` bytes, but never more than MAX_BYTES."""
    check_bytes(size, name)
    content = bytearray()
    while chunk := stream.read(_CHUNK_BYTES):
        content += chunk
        check_bytes(len(content), name)
    return bytes(content)


class BoundedTarInfo(tarfile.TarInfo):
    """A header of a tar, `tarfile.open(tarinfo=BoundedTarInfo)`; tarfile itself reads a name of any claimed length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile's, but raise `tarfile.ReadError` for a header that is too long to be one."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADERS and info.size > _MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a name or header of {info.size:,} bytes")
        return info
