"""The shard: a plain webdataset tar and, beside it, an index of where each sample's bytes lie (docs/data.md)."""

import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from seesr_pl.data.decode import image_size
from seesr_pl.files import LeftOut

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
TAGS_EXTENSION = "txt"
REPRESENTATION_EXTENSION = "rep.npy"
INDEX_SUFFIX = ".idx"

_MAGIC = b"SEESRIDX"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQQII")
_RECORD = np.dtype(
    [
        ("image_offset", "<u8"),
        ("image_bytes", "<u4"),
        ("image_crc32", "<u4"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("tags_offset", "<u8"),
        ("tags_bytes", "<u4"),
        ("tags_crc32", "<u4"),
        ("representation_offset", "<u8"),
        ("representation_bytes", "<u4"),
        ("representation_crc32", "<u4"),
        ("name_start", "<u4"),
        ("name_end", "<u4"),
    ]
)
# Webdataset's rule: the key ends at the first dot of the file name (webdataset/tariterators.py: base_plus_ext).
_MEMBER_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)


class Member(NamedTuple):
    """Where a member's bytes lie in the tar and their CRC-32; offset 0 means that there is no such member."""

    offset: int
    size: int
    crc32: int


ABSENT = Member(0, 0, 0)


class SampleEntry(NamedTuple):
    """One sample of a shard: its image's member name, and its members; width and height are 0 when unreadable."""

    name: str
    image: Member
    width: int
    height: int
    tags: Member = ABSENT
    representation: Member = ABSENT

    @property
    def key(self) -> str:
        """The sample's webdataset key."""
        return split_name(self.name)[0]

    @property
    def extension(self) -> str:
        """What follows the key in the image's name, without the first dot."""
        return split_name(self.name)[1]


class ShardIndex:
    """The samples of one shard, in tar order; reads and writes the `.idx` file.

    It is two flat buffers, so that forked workers share the memory without ever copying it.
    """

    def __init__(self, records: np.ndarray, names: bytes) -> None:
        self.records = records
        self.names = names

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> SampleEntry:
        row = self.records[position]
        return SampleEntry(
            name=self.names[int(row["name_start"]) : int(row["name_end"])].decode(),
            image=_member(row, "image"),
            width=int(row["width"]),
            height=int(row["height"]),
            tags=_member(row, "tags"),
            representation=_member(row, "representation"),
        )

    @classmethod
    def from_entries(cls, entries: list[SampleEntry]) -> "ShardIndex":
        """The index of a tar that holds `entries`."""
        records = np.zeros(len(entries), dtype=_RECORD)
        names = [entry.name.encode() for entry in entries]
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        for position, entry in enumerate(entries):
            start = int(ends[position]) - len(names[position])
            row = (*entry.image, entry.width, entry.height, *entry.tags, *entry.representation)
            records[position] = (*row, start, int(ends[position]))
        return cls(records, b"".join(names))

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "the index") -> "ShardIndex":
        """Parse an `.idx` file; ValueError, naming `source`, where it is not one or is damaged."""
        rebuild = f"rebuild it with `seesr shards index {source.removesuffix(INDEX_SUFFIX)}`"
        if len(data) < _HEADER.size or data[:8] != _MAGIC:
            raise ValueError(f"{source} is not a shard index; {rebuild}")
        _, version, record_bytes, count, name_bytes, crc32, _ = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if version != _VERSION or record_bytes != _RECORD.itemsize:
            raise ValueError(f"{source} has format version {version}, not {_VERSION}; {rebuild}")
        if len(body) != count * record_bytes + name_bytes or zlib.crc32(body) != crc32:
            raise ValueError(f"{source} is damaged (length or checksum differs); {rebuild}")
        records = np.frombuffer(body, dtype=_RECORD, count=count)
        return cls(records, body[count * record_bytes :])

    def to_bytes(self) -> bytes:
        """The content of the `.idx` file."""
        body = self.records.tobytes() + self.names
        counts = (len(self), len(self.names))
        return _HEADER.pack(_MAGIC, _VERSION, _RECORD.itemsize, *counts, zlib.crc32(body), 0) + body

    @classmethod
    def scan(cls, file: IO[bytes], *, left_out: list[LeftOut] | None = None) -> "ShardIndex":
        """Index an existing tar by reading it once from front to back; stops at a truncated or damaged header.

        `left_out` receives each member of an image, tags or representation that no sample holds, and why.
        """
        left_out = [] if left_out is None else left_out
        entries = (_entry(key, members, left_out) for key, members in _samples(file, left_out))
        return cls.from_entries([entry for entry in entries if entry is not None])


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into (key, extension); the extension is empty where webdataset finds no key."""
    match = _MEMBER_NAME.match(name)
    return (match.group(1), match.group(2)) if match else (name, "")


def _member(row: np.void, field: str) -> Member:
    return Member(int(row[f"{field}_offset"]), int(row[f"{field}_bytes"]), int(row[f"{field}_crc32"]))


class _ScannedMember(NamedTuple):
    name: str
    extension: str
    member: Member
    size: tuple[int, int]


def _samples(file: IO[bytes], left_out: list[LeftOut]) -> Iterator[tuple[str, list[_ScannedMember]]]:
    """Neighbouring members of one key, as webdataset groups them."""
    current, members = "", list[_ScannedMember]()
    for key, scanned in _members(file, left_out):
        if key != current and members:
            yield current, members
            members = []
        current = key
        members.append(scanned)
    if members:
        yield current, members


def _members(file: IO[bytes], left_out: list[LeftOut]) -> Iterator[tuple[str, _ScannedMember]]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for info in tar:
                key, extension = split_name(info.name)
                if not (info.isfile() or info.isdir()) and extension.lower() in IMAGE_EXTENSIONS:
                    left_out.append(LeftOut(Path(info.name), f"a link to {info.linkname}; store the file itself"))
                stream = tar.extractfile(info) if info.isfile() else None
                if stream is None:
                    continue
                data = stream.read()
                size = image_size(data) if extension.lower() in IMAGE_EXTENSIONS else (0, 0)
                member = Member(info.offset_data, info.size, zlib.crc32(data))
                yield key, _ScannedMember(info.name, extension, member, size)
    except (tarfile.ReadError, EOFError):
        # What precedes the damage is whole; what follows cannot be located.
        return


def _entry(key: str, members: list[_ScannedMember], left_out: list[LeftOut]) -> SampleEntry | None:
    found: dict[str, _ScannedMember] = {}
    for member in members:
        extension = member.extension.lower()
        if extension in found:
            left_out.append(LeftOut(Path(found[extension].name), "the next member has its key and extension too"))
        found[extension] = member
    image = next((found[name] for name in IMAGE_EXTENSIONS if name in found), None)
    if image is None:
        reasons = [LeftOut(Path(member.name), _reason_for_no_sample(member)) for member in found.values()]
        left_out += [item for item in reasons if item.reason]
        return None
    tags, representation = (
        found[name].member if name in found else ABSENT for name in (TAGS_EXTENSION, REPRESENTATION_EXTENSION)
    )
    return SampleEntry(f"{key}.{image.extension}", image.member, *image.size, tags, representation)


def _reason_for_no_sample(member: _ScannedMember) -> str:
    """Why a member is of no sample; empty where its name does not suggest that it should be."""
    if member.extension.lower() in (TAGS_EXTENSION, REPRESENTATION_EXTENSION):
        return "no image of its key beside it; the members of a sample must be neighbours"
    if member.name.rsplit(".", 1)[-1].lower() not in IMAGE_EXTENSIONS:
        return ""
    if not member.extension:
        return "its name begins with a dot, where webdataset finds no key"
    return f"webdataset ends the key at the first dot, so its extension is {member.extension}"
