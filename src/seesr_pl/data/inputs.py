"""The images of folders and archives, in an order that is the same each time."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ZIP_SUFFIX = ".zip"
# What the archive readers raise on damage; a zip with a password or an unknown method raises RuntimeError.
_DAMAGE = (tarfile.ReadError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class InputImage(NamedTuple):
    """An image file: its name for keys and reports, how to read it, and the input bytes passed once it is done."""

    name: str
    read: Callable[[], bytes]
    bytes_passed: int


class InputFile(NamedTuple):
    """A file on disk: an image or an archive of images, and its name below the source it was found in."""

    path: Path
    name: str
    size: int


def find_files(sources: Sequence[Path]) -> list[InputFile]:
    """Images and archives in `sources`, files or folders searched to any depth, sorted within each source."""
    found: list[InputFile] = []
    for source in sources:
        if source.is_dir():
            paths = sorted(path for path in source.rglob("*") if path.is_file() and _is_input(path.name))
            found += [InputFile(path, path.relative_to(source).as_posix(), path.stat().st_size) for path in paths]
        elif source.is_file() and _is_input(source.name):
            found.append(InputFile(source, source.name, source.stat().st_size))
        else:
            raise ValueError(
                f"{source} must be a folder, an image or a {', '.join((*TAR_SUFFIXES, ZIP_SUFFIX))} archive"
            )
    if not found:
        raise ValueError(f"no image and no archive found in {', '.join(map(str, sources))}")
    return found


def read_inputs(files: Sequence[InputFile]) -> Iterator[InputImage]:
    """Every image of `files`; those of an archive are read as the iterator moves on."""
    passed = 0
    for file in files:
        lower = file.path.name.lower()
        if lower.endswith(TAR_SUFFIXES):
            yield from _read_tar(file, passed)
        elif lower.endswith(ZIP_SUFFIX):
            yield from _read_zip(file, passed)
        else:
            yield InputImage(file.name, file.path.read_bytes, passed + file.size)
        passed += file.size


def _is_input(name: str) -> bool:
    return name.lower().endswith((*IMAGE_SUFFIXES, *TAR_SUFFIXES, ZIP_SUFFIX)) and not name.startswith("._")


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.rsplit("/", 1)[-1].startswith("._")


def _read_tar(file: InputFile, passed: int) -> Iterator[InputImage]:
    with file.path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for info in tar:
                    member = tar.extractfile(info) if info.isfile() and _is_image(info.name) else None
                    if member is not None:
                        content = io.BytesIO(member.read())
                        yield InputImage(f"{_stem(file)}/{info.name}", content.getvalue, passed + stream.tell())
        except _DAMAGE as error:
            yield InputImage(file.name, _failing(f"the archive is damaged: {error}"), passed + file.size)


def _read_zip(file: InputFile, passed: int) -> Iterator[InputImage]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            images = [info for info in archive.infolist() if not info.is_dir() and _is_image(info.filename)]
            for info in images:
                passed += info.compress_size
                yield InputImage(f"{_stem(file)}/{info.filename}", _zip_member(archive, info), passed)
    except _DAMAGE as error:
        yield InputImage(file.name, _failing(f"the archive is damaged: {error}"), passed + file.size)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    # Read here, not in the worker: the archive is closed when the iterator has moved on.
    try:
        return io.BytesIO(archive.read(info)).getvalue
    except _DAMAGE as error:
        return _failing(f"cannot be read from the archive: {error}")


def _failing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise ValueError(reason)

    return read


def _stem(file: InputFile) -> str:
    suffixes = [suffix for suffix in (*TAR_SUFFIXES, ZIP_SUFFIX) if file.name.lower().endswith(suffix)]
    return file.name[: -len(max(suffixes, key=len))]
