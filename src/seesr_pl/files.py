"""One rule each: write files whole or not at all, recognize a finished result, find images, require files."""

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from glob import escape, glob, has_magic
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".tga"
)  # fmt: skip
"""File endings of images in a folder, in lower or upper case."""
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".svg", ".exr", ".hdr",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2",
)  # fmt: skip
"""Endings of images that cannot be read here; such files are reported as left out."""

LIBRARIES = (
    "seesr-pl", "torch", "lightning", "diffusers", "transformers", "peft", "numpy", "opencv-python-headless"
)  # fmt: skip
"""What a result depends on besides its inputs."""


class MissingFile(NamedTuple):
    """A file or folder that only the user can provide: its path, where it is published, and how to provide it."""

    path: str
    origin: str
    fix: str


class ImageFile(NamedTuple):
    """An image file: its path, and its path relative to the folder searched (for a single file: its name)."""

    path: Path
    place: Path


class LeftOut(NamedTuple):
    """A file that is not used although it is named like an image, or a folder not searched; and the reason."""

    path: Path
    reason: str


class Found(NamedTuple):
    """The images that a search found, sorted by place, and the files that it left out."""

    images: list[ImageFile]
    left_out: list[LeftOut]


class Record(NamedTuple):
    """The JSON file beside a result, which tells how the result was made, so that no job is done twice."""

    path: Path

    @classmethod
    def beside(cls, result: Path) -> "Record":
        """Return the record of the file or folder `result`."""
        return cls(result.with_suffix(".json"))

    def read(self) -> dict[str, Any]:
        """Return the recorded facts; {} where there is no record, or it cannot be read."""
        try:
            facts = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def holds(self, fingerprint: str) -> bool:
        """Return whether the result was made from the inputs and settings with this `fingerprint`."""
        return self.read().get("fingerprint") == fingerprint

    def write(self, fingerprint: str, **facts: Any) -> None:
        """Write `facts`, JSON values, and `fingerprint`; call it when the result is complete."""
        write_whole(self.path, json.dumps({**facts, "fingerprint": fingerprint}, indent=2) + "\n")


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of `libraries` by name; those that are not installed under this name are left out."""
    found = {}
    for library in libraries:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def write_whole(
    path: str | Path,
    content: bytes | str | Callable[[Path], object],
    *,
    durable: bool = True,
    keep: Path | None = None,
) -> None:
    """Write `path` whole or not at all: even if the process is killed, it is either as before or complete.

    Args:
        path: a file or folder; folders above it are made.
        content: the bytes or UTF-8 text of the file, or a function that writes a file or folder at the path it gets.
        durable: wait until the disk has it; False is ten times faster, but a power failure may lose or damage the file.
        keep: the name that the file which was there gets, in the same folder; by default it is gone.

    Raises OSError where the disk is full or the path cannot be written; nothing is left behind then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer: two that share one would mix their bytes.
    draft = path.with_name(f".{path.name[:40]}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        if callable(content):
            content(draft)
        else:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
        if durable:
            _flush(draft)
        if keep and path.exists():
            os.replace(path, keep)
        _replace(draft, path)
        if durable:
            _flush(path.parent)
    except BaseException:
        _remove(draft)
        raise


def read_lines(path: Path, *, repair: bool) -> list[Any]:
    """Return the JSON values of the lines of `path`, [] without it; a last line that a kill cut is left out."""
    *lines, cut = (path.read_text(encoding="utf-8") if path.is_file() else "").split("\n")
    if cut and repair:  # for what appends to the file: the next line must not be joined to it
        write_whole(path, "".join(f"{line}\n" for line in lines))
    return [json.loads(line) for line in lines]


def fingerprint(*facts: Any) -> str:
    """Return a hash of nested plain values, 32 hexadecimal digits, equal in every process for equal facts.

    The order of mappings does not matter; a `Path` is hashed by its name and the sizes and times of its files.
    """
    text = json.dumps([_plain(fact) for fact in facts], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def find_images(
    source: str | Path, *, also: Sequence[str] = (), outside: Path | None = None, recursive: bool = True
) -> Found:
    """Find the images of `source`: a folder with its subfolders, a file, or a pattern such as "in/*.png".

    Args:
        source: taken as a pattern only if no file or folder has this name.
        also: further file endings to find, e.g. (".tar",).
        outside: a folder below `source` that is not searched, e.g. the folder of the results.
        recursive: search subfolders too; if False, they are listed as left out.

    Raises FileNotFoundError where `source` neither exists nor matches anything.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _searched(path, (*IMAGE_SUFFIXES, *also), outside and outside.resolve(), recursive=recursive)
    if path.exists():
        return Found([ImageFile(path, Path(path.name))], [])
    matches = sorted(glob(literal_folders(str(path)), recursive=True)) if has_magic(str(path)) else []
    if not matches:
        raise FileNotFoundError(f"{source} does not exist, and is no pattern that matches a file")
    found = [find_images(match, also=also, outside=outside, recursive=recursive) for match in matches]
    return Found([image for part in found for image in part.images], [left for part in found for left in part.left_out])


def literal_folders(pattern: str) -> str:
    """Return a glob pattern in which the folders that exist under their names, brackets and all, mean themselves."""
    parts = pattern.split("/")
    known = next((n for n in range(len(parts) - 1, 0, -1) if os.path.isdir("/".join(parts[:n]))), 0)
    return "/".join([*(escape(part) for part in parts[:known]), *parts[known:]])


def reason_by_name(name: str) -> str:
    """Return why a file with this name is left out although it looks like an image; "" where it is not."""
    last = name.rsplit("/", 1)[-1]
    lower = last.lower()
    if lower.endswith(UNREAD_SUFFIXES):
        return f"{Path(last).suffix} is not read here; convert it to PNG"
    if last.startswith("._") and lower.endswith(IMAGE_SUFFIXES):
        return "macOS metadata (AppleDouble), no image"
    return ""


def meets_all(error: Exception) -> bool:
    """Return whether every later file would meet this error too: the disk is full, over quota or read-only."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def require(missing: Sequence[MissingFile], *, hint: str = "") -> None:
    """Raise FileNotFoundError with one message that lists path, origin and fix of all `missing`, if there are any.

    `hint` is the message's last line: what helps with all of them.
    """
    if missing:
        unique = {file.path: file for file in missing}.values()
        lines = [f"  {file.path}\n    from: {file.origin}\n    fix:  {file.fix}" for file in unique]
        head = f"{len(lines)} needed and not there, nothing was started"
        raise FileNotFoundError("\n".join([head, *lines, *([hint] if hint else [])]))


def _searched(folder: Path, suffixes: tuple[str, ...], outside: Path | None, *, recursive: bool) -> Found:
    found = Found([], [])
    for path in _walk(folder, outside, found.left_out, seen=set(), recursive=recursive):
        if reason := _reason_to_leave_out(path):
            found.left_out.append(LeftOut(path, reason))
        elif path.name.lower().endswith(suffixes):
            found.images.append(ImageFile(path, path.relative_to(folder)))
    found.images.sort(key=lambda image: image.place)
    return found


def _walk(
    folder: Path, outside: Path | None, left_out: list[LeftOut], *, seen: set[Path], recursive: bool
) -> Iterator[Path]:
    """Yield the files below `folder`; follow links to folders, but search each folder only once."""
    real = folder.resolve()
    if real == outside:
        return
    if real in seen:
        left_out.append(LeftOut(folder, "a link to a folder that was searched already"))
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        left_out.append(LeftOut(folder, f"cannot be opened: {error.strerror}"))
        return
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif recursive:
            yield from _walk(entry, outside, left_out, seen=seen, recursive=True)
        elif entry.resolve() != outside:
            left_out.append(LeftOut(entry, "a folder; only the files beside it are searched"))


def _reason_to_leave_out(path: Path) -> str:
    if reason := reason_by_name(path.name):
        return reason
    if not path.name.lower().endswith(IMAGE_SUFFIXES) or path.is_file():
        return ""
    return "no ordinary file" if path.exists() else "a link to nothing"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return ["bytes", hashlib.blake2b(value, digest_size=16).hexdigest()]
    return [str(value), _stamps(value)] if isinstance(value, Path) else value


def _stamps(path: Path) -> list[Any]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _flush(path: Path) -> None:
    # A rename is only durable once both the content and the folder's entry are on the disk.
    for place in (*path.rglob("*"), path) if path.is_dir() and path.suffix == ".part" else (path,):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(draft: Path, path: Path) -> None:
    if not (draft.is_dir() and path.is_dir()):
        os.replace(draft, path)
        return
    # There is no portable call that swaps two folders, so the old one is renamed first.
    aside = draft.with_suffix(".old")
    os.replace(path, aside)
    os.replace(draft, path)
    shutil.rmtree(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
