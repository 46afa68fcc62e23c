"""Whatever is wrong with the metadata of an image, its pixels are read, and every reader reads the same."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seesr_pl.data.decode import decode_rgb
from seesr_pl.data.decode import image_size as stored_size
from seesr_pl.evaluation.benchmark import FolderBenchmark
from seesr_pl.imaging.io import image_size, read_decoded, read_rgb

MEGABYTES = b"0" * (2 << 20)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def file_of(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    check = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_with(*chunks: bytes, end: bool = False) -> bytes:
    data = file_of("PNG")
    at = len(data) - 12 if end else 33
    return data[:at] + b"".join(chunks) + data[at:]


def jpeg_with(marker: int, content: bytes) -> bytes:
    data = file_of("JPEG", quality=95)
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


PNGS = {
    "exif without a header": png_with(chunk(b"eXIf", b"\x00\x08\x00\x02\x01\x12\x00\x03")),
    "exif as Python prints it": png_with(chunk(b"eXIf", b"b'Exif\\x00\\x00II*'")),
    "exif of a wrong checksum": png_with(chunk(b"eXIf", b"II*\x00", checksum=1)),
    "exif without content": png_with(chunk(b"eXIf", b"")),
    "exif that points outside": png_with(chunk(b"eXIf", b"II*\x00\xff\xff\xff\x7f")),
    "exif after the pixels": png_with(chunk(b"eXIf", b"nonsense"), end=True),
    "2 MB of compressed text": png_with(chunk(b"zTXt", b"a\x00\x00" + zlib.compress(MEGABYTES))),
    "2 MB of compressed unicode": png_with(chunk(b"iTXt", b"a\x00\x01\x00\x00\x00" + zlib.compress(MEGABYTES))),
    "70 MB of text": png_with(*[chunk(b"tEXt", b"a\x00" + MEGABYTES)] * 35),
    "text after the pixels": png_with(chunk(b"zTXt", b"a\x00\x00" + zlib.compress(MEGABYTES)), end=True),
    "a text that is not compressed": png_with(chunk(b"zTXt", b"a\x00\x00nonsense")),
    "a text of a wrong checksum": png_with(chunk(b"tEXt", b"a\x00b", checksum=7)),
    "a profile of 2 MB": png_with(chunk(b"iCCP", b"big\x00\x00" + zlib.compress(MEGABYTES))),
    "a profile that is not compressed": png_with(chunk(b"iCCP", b"big\x00\x00nonsense")),
    "a profile without a name": png_with(chunk(b"iCCP", b"")),
    "a time, a gamma and a resolution of no length": png_with(
        *(chunk(kind, b"") for kind in (b"tIME", b"gAMA", b"pHYs"))
    ),
}
JPEGS = {
    "exif of nonsense": jpeg_with(0xE1, b"Exif\x00\x00nonsense"),
    "exif that points outside": jpeg_with(0xE1, b"Exif\x00\x00II*\x00\xff\xff\xff\x7f"),
    "exif without content": jpeg_with(0xE1, b"Exif\x00\x00"),
    "a preview that is none": jpeg_with(0xE2, b"MPF\x00nonsense"),
    "a part of a profile alone": jpeg_with(0xE2, b"ICC_PROFILE\x00\x07\x09nonsense"),
    "settings of Photoshop": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00"),
    "a comment of 60 KB": jpeg_with(0xFE, b"c" * 60000),
}


@pytest.mark.parametrize("name", PNGS)
def test_a_png_is_read_whatever_its_metadata(name):
    np.testing.assert_array_equal(read_rgb(PNGS[name]), pixels())
    np.testing.assert_array_equal(read_decoded(PNGS[name]).rgb, pixels())
    assert image_size(PNGS[name]) == stored_size(PNGS[name]) == (48, 40)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_is_read_whatever_its_metadata(name):
    plain = read_rgb(file_of("JPEG", quality=95))
    np.testing.assert_array_equal(read_rgb(JPEGS[name]), plain)
    np.testing.assert_array_equal(read_decoded(JPEGS[name]).rgb, plain)
    assert image_size(JPEGS[name]) == stored_size(JPEGS[name]) == (48, 40)


def test_a_webp_with_unreadable_exif_is_read():
    np.testing.assert_array_equal(read_rgb(file_of("WEBP", lossless=True, exif=b"Exif\x00\x00nonsense")), pixels())


def test_a_sound_profile_and_orientation_are_kept():
    exif = Image.Exif()
    exif[0x0112] = 8
    for kind in ("PNG", "JPEG"):
        image = read_decoded(file_of(kind, exif=exif, icc_profile=b"profile"))
        assert image.rgb.shape == (48, 40, 3)
        assert image.icc_profile == b"profile"


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_orientation_is_that_of_pillow(kind, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    data = file_of(kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    transposed = Image.Image.transpose
    methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    plain = Image.fromarray(read_rgb(file_of(kind, **({"lossless": True} if kind == "WEBP" else {}))))
    expected = transposed(plain, Image.Transpose(methods[turned])) if turned > 1 else plain
    np.testing.assert_array_equal(read_rgb(data), np.asarray(expected))
    assert image_size(data) == expected.size


def test_one_damaged_file_is_damaged_for_every_reader():
    data = file_of("JPEG", quality=95)
    for at in range(200, len(data) - 2, 97):
        broken = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        results = [outcome(reader, broken) for reader in (decode_rgb, read_rgb, lambda each: read_decoded(each).rgb)]
        assert results[0] == results[1] == results[2]


def outcome(reader, data):
    try:
        return reader(data).tobytes()
    except ValueError as error:
        return str(error)


def test_an_animation_in_a_png_is_refused_like_any_other():
    frames = [Image.fromarray(pixels()), Image.fromarray(255 - pixels())]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    for reader in (decode_rgb, read_rgb, read_decoded, image_size):
        with pytest.raises(ValueError, match="animation"):
            reader(buffer.getvalue())


def test_a_pair_is_compared_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder, size in (("lq", (20, 24)), ("hq", (96, 80))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / folder / "r.jpg", exif=exif if folder == "lq" else b"")
    assert [pair.name for pair in FolderBenchmark(str(tmp_path)).pairs()] == ["r"]
