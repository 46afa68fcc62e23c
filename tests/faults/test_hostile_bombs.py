"""Small files that claim or unpack to a huge size are refused from their headers, by every reader, in little memory."""

import gzip
import io
import struct
import subprocess
import sys
import tarfile
import textwrap
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from seesr_pl import limits
from seesr_pl.data import ShardIndex, ShardWriter
from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.inputs import find_inputs, read_inputs
from seesr_pl.imaging.io import image_size, read_decoded, read_rgb

SIDE = 30_000
HUGE = 4 << 30
UNPACKED = 5 << 28


def png(width: int, height: int) -> bytes:
    """A whole PNG of one gray; its pixels compress a thousandfold."""
    row, packer = bytes(1 + width), zlib.compressobj(9)
    rows = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, *zip(*chunks, strict=True)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def small(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def claiming(kind: str) -> bytes:
    """A small sound image whose header claims SIDE x SIDE pixels."""
    data = bytearray(small(kind))
    if kind == "BMP":
        data[18:26] = struct.pack("<ii", SIDE, SIDE)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", SIDE, SIDE)
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", SIDE, SIDE)
    elif kind == "WEBP":  # the largest that the format has
        at = data.index(b"\x9d\x01\x2a") + 3
        data[at : at + 4] = struct.pack("<HH", 16383, 16383)
    elif kind == "TIFF":
        for tag in (256, 257):
            at = data.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in data else None
            at = data.index(struct.pack("<HHI", tag, 3, 1)) if at is None else at
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, SIDE)
    return bytes(data)


BOMBS = {kind: claiming(kind) for kind in ("BMP", "GIF", "JPEG", "WEBP", "TIFF")}


@pytest.fixture(scope="module")
def bomb():
    return png(SIDE, SIDE)


@pytest.mark.parametrize("read", [read_rgb, read_decoded, image_size, decode_rgb])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_header_that_claims_too_much_is_refused(kind, read):
    with pytest.raises(ValueError, match=r"limit is 89478485|damaged|too many pixels"):
        read(BOMBS[kind])


def test_the_size_that_was_checked_is_the_size_that_is_decoded():
    sound = small("PNG")
    large = chunk(b"IHDR", struct.pack(">II", SIDE, SIDE) + sound[24:29])
    assert read_rgb(sound[:8] + large + sound[8:]).shape == (8, 8, 3)


def test_postscript_named_as_an_image_is_not_interpreted():
    with pytest.raises(ValueError, match="is not an image that can be read"):
        read_rgb(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n")


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_what_is_computed_in_parts_is_what_is_computed_at_once(mode):
    levels = np.random.default_rng(0).integers(0, 2**16, (600, 7), dtype=np.uint16)
    pixels = levels if mode == "I;16" else np.dstack([(levels >> shift).astype(np.uint8) for shift in (0, 2, 4, 8)])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    if mode == "I;16":
        expected = np.rint(levels / 65535 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    else:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        expected = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    assert np.array_equal(read_rgb(buffer.getvalue()), expected)


def in_child(code: str, *arguments: object, timeout: float = 120) -> tuple[str, float]:
    """Run code in a process of its own; return what it printed, and its peak of resident memory in MB."""
    measured = f"{textwrap.dedent(code)}\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", measured, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return "\n".join(lines[:-1]), int(lines[-1]) / 1024


BUILD = """
import sys, json
from seesr_pl.data.build import build_shards
from seesr_pl.data.prepare import BuildOptions
print(json.dumps(build_shards([sys.argv[1]], sys.argv[2], options=BuildOptions())))
"""


def zip_of_zeros(path, size, *, names=("zeros.png",), method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(size >> 24):
                    member.write(bytes(1 << 24))


def sparse_header(name: str, size: int) -> bytes:
    """The header of a sparse GNU member that claims `size` bytes and stores none."""
    info = tarfile.TarInfo(name)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = tarfile.GNUTYPE_SPARSE
    block[124:136] = b"%011o\0" % 0
    block[386:410] = b"%011o\0" % 0 + b"%011o\0" % 0
    block[483:495] = b"\x80" + size.to_bytes(11)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def long_name_header(size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.size, info.type = size, tarfile.GNUTYPE_LONGNAME
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.slow
def test_a_build_leaves_all_bombs_out_in_less_than_a_gigabyte(tmp_path, bomb):
    source = tmp_path / "in"
    source.mkdir()
    (source / "bomb.png").write_bytes(bomb)
    for kind in ("BMP", "GIF", "JPEG", "WEBP", "TIFF"):
        (source / f"claims.{kind.lower()}").write_bytes(BOMBS[kind])
    zip_of_zeros(source / "one.zip", UNPACKED)
    zip_of_zeros(source / "many.zip", 240 << 20, names=[f"{n}.png" for n in range(6)])
    zip_of_zeros(source / "bz2.zip", UNPACKED, method=zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(source / "nested.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(source / "bomb.png", "deep/bomb.png")
        archive.write(source / "one.zip", "deep/one.zip")
    (source / "sparse.tar").write_bytes(sparse_header("zeros.png", HUGE) + bytes(10240))
    with gzip.open(source / "name.tar.gz", "wb") as file:
        file.write(long_name_header(HUGE))
        for _ in range(UNPACKED >> 24):
            file.write(bytes(1 << 24))
    with (source / "hole.png").open("wb") as file:
        file.truncate(HUGE)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(source / "sound.png")
    printed, megabytes = in_child(BUILD, source, tmp_path / "out", timeout=300)
    assert '"images": 1' in printed
    for name in ("bomb.png", "one/zeros.png", "bz2/zeros.png", "nested/deep/bomb.png", "sparse/zeros.png", "hole.png"):
        assert f'"{name}"' in printed
    assert megabytes < 1000


def test_members_are_refused_by_the_size_that_they_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 20)
    (tmp_path / "sparse.tar").write_bytes(sparse_header("a.png", HUGE) + bytes(10240))
    zip_of_zeros(tmp_path / "zeros.zip", 2 << 24)
    zip_of_zeros(tmp_path / "packed.zip", 1 << 24, method=zipfile.ZIP_LZMA)
    (tmp_path / "named.tar").write_bytes(long_name_header(HUGE) + bytes(10240))
    with (tmp_path / "hole.png").open("wb") as file:
        file.truncate(HUGE)
    reasons = {}
    for image in read_inputs(find_inputs([tmp_path], outside=tmp_path / "none").files):
        with pytest.raises(ValueError, match=r".") as error:
            image.read()
        reasons[image.name] = str(error.value)
    assert sorted(reasons) == ["hole.png", "named.tar", "packed/zeros.png", "sparse/a.png", "zeros/zeros.png"]
    for name in ("hole.png", "sparse/a.png", "zeros/zeros.png"):
        assert "the limit is 1 MiB" in reasons[name]
    assert "method 14" in reasons["packed/zeros.png"]
    assert "a name or header of 4,294,967,296 bytes" in reasons["named.tar"]


def test_the_index_leaves_out_what_is_too_large_and_reads_nothing_else(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 16)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, size in (("a.jpg", 10), ("a.json", 1 << 20), ("b.jpg", 10), ("b.txt", 1 << 20), ("c.jpg", 1 << 17)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    left_out = []
    index = ShardIndex.scan(io.BytesIO(buffer.getvalue()), left_out=left_out)
    assert [index[position].key for position in range(len(index))] == ["a", "b"]
    assert not index[1].tags.offset
    assert [(str(path), "limit" in reason) for path, reason in left_out] == [("b.txt", True), ("c.jpg", True)]


def test_an_index_that_claims_a_huge_member_is_refused(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write("a", small("PNG"), extension="png")
    index = ShardIndex.from_bytes((tmp_path / "shard-000000.tar.idx").read_bytes())
    records = index.records.copy()
    records["image_bytes"] = HUGE - 1
    with pytest.raises(ValueError, match=r"4,294,967,295 bytes; the limit is 256 MiB"):
        ShardIndex.from_bytes(ShardIndex(records, index.names).to_bytes())


def test_the_limits_are_set_by_the_environment():
    code = "from seesr_pl import limits; print(limits.MAX_PIXELS, limits.MAX_BYTES)"
    environment = {"SEESR_MAX_PIXELS": "1000000000", "SEESR_MAX_MEGABYTES": "0.5", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["1000000000", "524288"]
