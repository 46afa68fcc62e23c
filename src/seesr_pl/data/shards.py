"""The shard: a plain webdataset tar, and beside it an index of where each sample's bytes lie (docs/data.md)."""

import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from seesr_pl.data.decode import image_size
from seesr_pl.files import LeftOut
from seesr_pl.limits import BoundedTarInfo, check_bytes, read_stream

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
TAGS_EXTENSION = "txt"
REPRESENTATION_EXTENSION = "rep.npy"
LQ_EXTENSIONS = tuple(f"lq.{extension}" for extension in IMAGE_EXTENSIONS)
INDEX_SUFFIX = ".idx"

_MAGIC = b"SEESRIDX"
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
_LQ_FIELDS = [("lq_offset", "<u8"), ("lq_bytes", "<u4"), ("lq_crc32", "<u4"), ("lq_width", "<u4"), ("lq_height", "<u4")]
# A record of version 2 ends with the LQ image; where no sample has one, the index is of version 1.
_RECORDS = {1: _RECORD, 2: np.dtype([*_RECORD.descr, *_LQ_FIELDS])}
MAX_TAG_BYTES = 1 << 16
"""Bytes of the tags of one image."""
# Webdataset's rule: the key ends at the first dot of the file name (webdataset/tariterators.py: base_plus_ext).
_MEMBER_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)


class Member(NamedTuple):
    """A member of a tar: offset and size of its data in bytes, and the CRC-32; offset 0: there is no such member."""

    offset: int
    size: int
    crc32: int


ABSENT = Member(0, 0, 0)


class SampleEntry(NamedTuple):
    """One sample of a shard: the name of its image's member, and its members.

    Sizes are in pixels, as stored; 0 where the image's header cannot be read. `lq` is a stored low-quality image.
    """

    name: str
    image: Member
    width: int
    height: int
    tags: Member = ABSENT
    representation: Member = ABSENT
    lq: Member = ABSENT
    lq_width: int = 0
    lq_height: int = 0

    @property
    def key(self) -> str:
        """The sample's webdataset key."""
        return split_name(self.name)[0]

    @property
    def extension(self) -> str:
        """The image's extension: its name after the key and the first dot."""
        return split_name(self.name)[1]


class ShardIndex:
    """The samples of one shard, in the order of the tar; reads and writes the `.idx` file.

    It consists of two flat buffers, so that forked workers share its memory and never copy it.
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
            **({} if not self.has_lq else _lq_of(row)),
        )

    @property
    def has_lq(self) -> bool:
        """Whether any sample may have a stored LQ image."""
        return "lq_offset" in (self.records.dtype.names or ())

    def without_pair(self, scale: int) -> np.ndarray:
        """Return, for each sample, whether it has no LQ image, or one that is not `scale` times smaller (rounded down).

        A side may be turned: EXIF data turn images when they are read.
        """
        if not self.has_lq:
            return np.ones(len(self), dtype=bool)
        hq = np.sort(np.stack([self.records["width"], self.records["height"]]), axis=0)
        lq = np.sort(np.stack([self.records["lq_width"], self.records["lq_height"]]), axis=0)
        return (hq // scale != lq).any(0) | (self.records["lq_offset"] == 0)

    @classmethod
    def from_entries(cls, entries: list[SampleEntry]) -> "ShardIndex":
        """Return the index of a tar that holds `entries`, in this order."""
        has_lq = any(entry.lq.offset for entry in entries)
        records = np.zeros(len(entries), dtype=_RECORDS[2 if has_lq else 1])
        names = [entry.name.encode() for entry in entries]
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        for position, entry in enumerate(entries):
            start = int(ends[position]) - len(names[position])
            row = (*entry.image, entry.width, entry.height, *entry.tags, *entry.representation)
            stored_lq = (*entry.lq, entry.lq_width, entry.lq_height) if has_lq else ()
            records[position] = (*row, start, int(ends[position]), *stored_lq)
        return cls(records, b"".join(names))

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "the index") -> "ShardIndex":
        """Parse the content of an `.idx` file; raise ValueError, naming `source`, where it is damaged or not one."""
        rebuild = f"rebuild it with `seesr shards index {source.removesuffix(INDEX_SUFFIX)}`"
        if len(data) < _HEADER.size or data[:8] != _MAGIC:
            raise ValueError(f"{source} is not a shard index; {rebuild}")
        _, version, record_bytes, count, name_bytes, crc32, _ = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if version not in _RECORDS or record_bytes != _RECORDS[version].itemsize:
            raise ValueError(f"{source} has format version {version}, not one of {[*_RECORDS]}; {rebuild}")
        if len(body) != count * record_bytes + name_bytes or zlib.crc32(body) != crc32:
            raise ValueError(f"{source} is damaged (length or checksum differs); {rebuild}")
        records = np.frombuffer(body, dtype=_RECORDS[version], count=count)
        parts = ("image", "tags", "representation", *(["lq"] if version == 2 else []))
        largest = max(int(records[f"{part}_bytes"].max(initial=0)) for part in parts)
        check_bytes(largest, f"{source}: a member")
        return cls(records, body[count * record_bytes :])

    def to_bytes(self) -> bytes:
        """Return the content of the `.idx` file."""
        body = self.records.tobytes() + self.names
        counts = (len(self), len(self.names))
        version = 2 if self.has_lq else 1
        return _HEADER.pack(_MAGIC, version, self.records.itemsize, *counts, zlib.crc32(body), 0) + body

    @classmethod
    def scan(cls, file: IO[bytes], *, left_out: list[LeftOut] | None = None) -> "ShardIndex":
        """Index an existing tar by reading it once from front to back; stop at a truncated or damaged header.

        `left_out` receives each image, text or representation that belongs to no sample, with the reason.
        """
        left_out = [] if left_out is None else left_out
        entries = (_entry(key, members, left_out) for key, members in _samples(file, left_out))
        return cls.from_entries([entry for entry in entries if entry is not None])


def tag_text(data: bytes) -> str:
    """Return a shard's tags as text, without a byte order mark.

    Raises ValueError where they are not UTF-8, or have more than MAX_TAG_BYTES: they are cut into tokens whole.
    """
    if len(data) > MAX_TAG_BYTES:
        raise ValueError(f"its tags have {len(data):,} bytes; the limit is {MAX_TAG_BYTES:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("its tags are no UTF-8 text; write them again as UTF-8") from error


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into (key, extension) by webdataset's rule; without a key, return (name, "")."""
    match = _MEMBER_NAME.match(name)
    return (match.group(1), match.group(2)) if match else (name, "")


def _member(row: np.void, field: str) -> Member:
    return Member(int(row[f"{field}_offset"]), int(row[f"{field}_bytes"]), int(row[f"{field}_crc32"]))


def _lq_of(row: np.void) -> dict[str, Any]:
    return {"lq": _member(row, "lq"), "lq_width": int(row["lq_width"]), "lq_height": int(row["lq_height"])}


class _ScannedMember(NamedTuple):
    name: str
    extension: str
    member: Member
    size: tuple[int, int]
    problem: str = ""


def _samples(file: IO[bytes], left_out: list[LeftOut]) -> Iterator[tuple[str, list[_ScannedMember]]]:
    """Yield each key with its neighboring members, as webdataset groups them."""
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
        with tarfile.open(fileobj=file, mode="r|", tarinfo=BoundedTarInfo) as tar:
            for info in tar:
                key, extension = split_name(info.name)
                if not (info.isfile() or info.isdir()) and extension.lower() in IMAGE_EXTENSIONS:
                    left_out.append(LeftOut(Path(info.name), f"a link to {info.linkname}; store the file itself"))
                stream = tar.extractfile(info) if info.isfile() else None
                if stream is None:
                    continue
                yield key, _scanned(info, extension, stream)
    except (tarfile.ReadError, EOFError):
        # Members before the damage are whole; members after it cannot be located.
        return


def _scanned(info: tarfile.TarInfo, extension: str, stream: IO[bytes]) -> _ScannedMember:
    kind = extension.lower()
    member = Member(info.offset_data, info.size, 0)
    if kind not in (*IMAGE_EXTENSIONS, *LQ_EXTENSIONS, TAGS_EXTENSION, REPRESENTATION_EXTENSION):
        return _ScannedMember(info.name, extension, member, (0, 0))
    if info.issparse():  # its bytes do not lie one after another
        return _ScannedMember(info.name, extension, member, (0, 0), "a sparse file; store it whole")
    try:
        data = read_stream(stream, size=info.size, name="it")
    except ValueError as error:
        return _ScannedMember(info.name, extension, member, (0, 0), str(error))
    size = image_size(data) if kind in (*IMAGE_EXTENSIONS, *LQ_EXTENSIONS) else (0, 0)
    problem = _problem_of_text(data) if kind == TAGS_EXTENSION else ""
    return _ScannedMember(info.name, extension, member._replace(crc32=zlib.crc32(data)), size, problem)


def _problem_of_text(data: bytes) -> str:
    try:
        tag_text(data)
    except ValueError as error:
        return str(error)
    return ""


def _entry(key: str, members: list[_ScannedMember], left_out: list[LeftOut]) -> SampleEntry | None:
    found: dict[str, _ScannedMember] = {}
    for member in members:
        extension = member.extension.lower()
        if extension in found:
            left_out.append(LeftOut(Path(found[extension].name), "a later member has the same key and extension"))
        if member.problem:
            left_out.append(LeftOut(Path(member.name), member.problem))
        else:
            found[extension] = member
    image = next((found[name] for name in IMAGE_EXTENSIONS if name in found), None)
    if image is None:
        reasons = [LeftOut(Path(member.name), _reason_for_no_sample(member)) for member in found.values()]
        left_out += [item for item in reasons if item.reason]
        return None
    tags, representation = (
        found[name].member if name in found else ABSENT for name in (TAGS_EXTENSION, REPRESENTATION_EXTENSION)
    )
    lq = next((found[name] for name in LQ_EXTENSIONS if name in found), None)
    stored_lq = () if lq is None else (lq.member, *lq.size)
    return SampleEntry(f"{key}.{image.extension}", image.member, *image.size, tags, representation, *stored_lq)


def _reason_for_no_sample(member: _ScannedMember) -> str:
    """Return why a member belongs to no sample; empty where its name does not suggest that it should."""
    if member.extension.lower() in (TAGS_EXTENSION, REPRESENTATION_EXTENSION, *LQ_EXTENSIONS):
        return "no image with its key beside it; the members of a sample must be neighbors"
    if member.name.rsplit(".", 1)[-1].lower() not in IMAGE_EXTENSIONS:
        return ""
    if not member.extension:
        return "its name begins with a dot, where webdataset finds no key"
    return f"webdataset ends the key at the first dot, so its extension is {member.extension}"
