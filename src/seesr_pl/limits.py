"""How large an image or a file may be that is read, the same for every reader: small files can claim any size."""

import csv
import io
import json
import os
import tarfile
from pathlib import Path
from typing import IO, Any, Self

MAX_PIXELS = int(os.environ.get("SEESR_MAX_PIXELS", "89_478_485"))
"""Pixels of an image; the default is Pillow's own limit. Checked from the header, before anything is decoded."""
MAX_BYTES = int(float(os.environ.get("SEESR_MAX_MEGABYTES", "256")) * 2**20)
"""Bytes of an image, a text or an index, in a file of its own or in an archive."""
MAX_RECORD_BYTES = 1 << 24
"""Bytes of a table, record or config that is read whole: in memory it takes many times its size."""
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


def read_text(path: str | Path, *, limit: int = MAX_RECORD_BYTES) -> str:
    """Read a UTF-8 file. Raises ValueError, which names it, where it is no such text or has more bytes than `limit`."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    with Path(path).open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes, the limit of a text that is read whole")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error


def read_json(path: str | Path, *keys: str, limit: int = MAX_RECORD_BYTES) -> Any:
    """Read a JSON file of at most `limit` bytes, with `keys` an object that has all of them.

    Raises ValueError, which names the file, where it is anything else; OSError where it cannot be read.
    """
    text = read_text(path, limit=limit)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON that can be read: {error}") from error
    lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
    if lacking:
        raise ValueError(f"{path} has no {', '.join(lacking)}: is it another file than it should be?")
    return content


def read_rows(path: str | Path, *columns: str) -> list[dict[str, str]]:
    """Read a CSV file with a header that has `columns`; raise as `read_json` does."""
    text = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = [{name: value or "" for name, value in row.items() if name is not None} for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV that can be read: {error}") from error
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise ValueError(f"{path} has no column {', '.join(lacking)}: is it another file than it should be?")
    return rows


class BoundedTarInfo(tarfile.TarInfo):
    """A header of a tar, `tarfile.open(tarinfo=BoundedTarInfo)`; tarfile itself reads a name of any claimed length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile's, but raise `tarfile.ReadError` for a header that is too long to be one."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADERS and info.size > _MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a name or header of {info.size:,} bytes")
        return info
