"""Find and read the images of folders and archives, always in the same order."""

import functools
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

from seesr_pl.files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, LeftOut, find_images, reason_by_name
from seesr_pl.limits import BoundedTarInfo, read_file, read_stream

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
ZIP_SUFFIX = ".zip"
_GZIP = b"\x1f\x8b"
# Raised by the archive readers on damage; a zip with a password or an unknown method raises RuntimeError.
_DAMAGE = (tarfile.ReadError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)


class InputImage(NamedTuple):
    """An image: its name in keys and reports, a function that reads its bytes, and the bytes of all inputs up to it.

    `read` raises ValueError or OSError where the image cannot be read; it keeps `bytes_held` in memory until then.
    `lq` is the LQ image that belongs to it.
    """

    name: str
    read: Callable[[], bytes]
    bytes_passed: int
    bytes_held: int = 0
    lq: Path | None = None


class InputFile(NamedTuple):
    """A file on disk, an image or an archive of images: its path, its name below the source, its size in bytes."""

    path: Path
    name: str
    size: int


class Inputs(NamedTuple):
    """The files of all sources, sorted within each source, and the files that the search left out."""

    files: list[InputFile]
    left_out: list[LeftOut]


def find_inputs(sources: Sequence[str | Path], *, outside: Path) -> Inputs:
    """Find the images and archives of `sources` by the rules of `find_images`; the folder `outside` is not searched.

    Raises ValueError where a source does not exist, or none of them holds an image or archive.
    """
    inputs = Inputs([], [])
    for source in sources:
        try:
            found = find_images(source, also=(*TAR_SUFFIXES, ZIP_SUFFIX), outside=outside)
        except FileNotFoundError as error:
            raise ValueError(f"{error}; give a folder, an image, an archive or a pattern") from error
        for path, place in found.images:
            inputs.files.append(InputFile(path, place.as_posix(), path.stat().st_size))
        folder = Path(source).expanduser()
        for path, reason in found.left_out:
            place = path.relative_to(folder) if path.is_relative_to(folder) else path
            inputs.left_out.append(LeftOut(place, reason))
    if not inputs.files:
        raise ValueError(
            f"no image and no archive found in {', '.join(map(str, sources))}; give folders, images or archives"
        )
    return inputs


def find_lq(folder: str | Path, *, outside: Path) -> dict[str, InputFile]:
    """Return the LQ images of `folder` by their names below it, without ending, as `matched_inputs` looks them up.

    Raises ValueError where the folder does not exist, holds no image, or holds two images of one name.
    """
    found: dict[str, InputFile] = {}
    for file in find_inputs([folder], outside=outside).files:
        name = _bare(file.name)
        if name in found:
            raise ValueError(f"{file.path} and {found[name].path} have one name: which is the LQ image of {name}?")
        found[name] = file
    return found


def matched_inputs(images: Iterator[InputImage], lq: Mapping[str, InputFile]) -> Iterator[InputImage]:
    """Give each image the LQ image of the same name, where there is one."""
    for image in images:
        file = lq.get(_bare(image.name))
        yield image._replace(lq=file.path) if file else image


def _bare(name: str) -> str:
    return str(Path(name).with_suffix(""))


def read_inputs(files: Sequence[InputFile]) -> Iterator[InputImage]:
    """Yield every image of `files`, in order; the images of an archive are read while iterating."""
    passed = 0
    for file in files:
        lower = file.path.name.lower()
        if lower.endswith(TAR_SUFFIXES):
            yield from _read_tar(file, passed)
        elif lower.endswith(ZIP_SUFFIX):
            yield from _read_zip(file, passed)
        else:
            yield InputImage(file.name, functools.partial(read_file, file.path), passed + file.size)
        passed += file.size


def _is_image(name: str) -> bool:
    """Return whether an archive's member is an image by its name, including those that can only be reported."""
    return name.lower().endswith((*IMAGE_SUFFIXES, *UNREAD_SUFFIXES))


def _read_tar(file: InputFile, passed: int) -> Iterator[InputImage]:
    with file.path.open("rb") as stream:
        try:
            # Of the other compressions a few bytes may hold gigabytes, which tarfile keeps whole.
            mode: Literal["r|gz", "r|"] = "r|gz" if stream.peek(2).startswith(_GZIP) else "r|"
            with tarfile.open(fileobj=stream, mode=mode, tarinfo=BoundedTarInfo) as tar:
                for info in tar:
                    if not info.isdir() and _is_image(info.name):
                        read = _tar_member(tar, info)
                        yield InputImage(f"{_stem(file)}/{info.name}", read, passed + stream.tell(), info.size)
        except _DAMAGE as error:
            yield InputImage(file.name, _failing(f"the archive is damaged: {error}"), passed + file.size)


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], bytes]:
    if reason := reason_by_name(info.name):
        return _failing(reason)
    member = tar.extractfile(info) if info.isfile() else None
    if member is None:
        # The archive is read from front to back and cannot return to the link's target, which is an input of its own.
        return _failing(f"a link to {info.linkname} within the archive")
    return _held(member, info.size, info.name)


def _read_zip(file: InputFile, passed: int) -> Iterator[InputImage]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            images = [info for info in archive.infolist() if not info.is_dir() and _is_image(info.filename)]
            for info in images:
                passed += info.compress_size
                yield InputImage(f"{_stem(file)}/{info.filename}", _zip_member(archive, info), passed, info.file_size)
    except _DAMAGE as error:
        yield InputImage(file.name, _failing(f"the archive is damaged: {error}"), passed + file.size)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    if reason := reason_by_name(info.filename):
        return _failing(reason)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _failing(f"compressed by method {info.compress_type}, which is not read here; use stored or deflated")
    try:
        with archive.open(info) as member:
            return _held(member, info.file_size, info.filename)
    except _DAMAGE as error:
        return _failing(f"cannot be read from the archive: {error}")


def _held(member: IO[bytes], size: int, name: str) -> Callable[[], bytes]:
    """Read a member here, not in the worker: by then the archive may be closed, or past it."""
    try:
        return io.BytesIO(read_stream(member, size=size, name=name)).getvalue
    except ValueError as error:
        return _failing(str(error))


def _failing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise ValueError(reason)

    return read


def _stem(file: InputFile) -> str:
    suffixes = [suffix for suffix in (*TAR_SUFFIXES, ZIP_SUFFIX) if file.name.lower().endswith(suffix)]
    return file.name[: -len(max(suffixes, key=len))]
