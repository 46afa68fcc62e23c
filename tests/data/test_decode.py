"""Whatever the file, the pixels are the correct 8-bit RGB, and a damaged file is an error."""

import io

import numpy as np
import pytest
from PIL import Image

from seesr_pl.data.decode import decode_rgb, image_format, image_size
from seesr_pl.imaging.io import read_rgb


@pytest.fixture
def picture(encoded) -> Image.Image:
    return Image.open(io.BytesIO(encoded(1, size=(120, 80)))).convert("RGB")


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(kind: str, image: Image.Image, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(image, kind, exif=exif, **options)


FILES = {
    "jpeg": lambda p: file_of(p, "JPEG", quality=95),
    "jpeg 4:4:4": lambda p: file_of(p, "JPEG", quality=95, subsampling=0),
    "progressive jpeg": lambda p: file_of(p, "JPEG", progressive=True),
    "gray jpeg": lambda p: file_of(p.convert("L"), "JPEG"),
    "cmyk jpeg": lambda p: file_of(p.convert("CMYK"), "JPEG"),
    "turned jpeg": lambda p: turned("JPEG", p),
    "png": lambda p: file_of(p, "PNG"),
    "gray png": lambda p: file_of(p.convert("L"), "PNG"),
    "palette png": lambda p: file_of(p.convert("P"), "PNG"),
    "alpha png": lambda p: file_of(Image.merge("RGBA", (*p.split(), p.convert("L"))), "PNG"),
    "gray alpha png": lambda p: file_of(Image.merge("LA", (p.convert("L"), p.convert("L"))), "PNG"),
    "transparent colour png": lambda p: file_of(p, "PNG", transparency=p.getpixel((3, 3))),
    "one bit png": lambda p: file_of(p.convert("1"), "PNG"),
    "16 bit png": lambda p: file_of(Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257), "PNG"),
    "turned png": lambda p: turned("PNG", p),
    "lossless webp": lambda p: file_of(p, "WEBP", lossless=True),
    "webp": lambda p: file_of(p, "WEBP", quality=90),
    "alpha webp": lambda p: file_of(Image.merge("RGBA", (*p.split(), p.convert("L"))), "WEBP", lossless=True),
    "turned webp": lambda p: turned("WEBP", p, lossless=True),
    "bmp": lambda p: file_of(p, "BMP"),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_the_reference_reader(picture, name):
    data = FILES[name](picture)
    pixels = decode_rgb(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((120, 80, 3) if name.startswith("turned") else (80, 120, 3))
    # A JPEG or lossy WebP may differ by a rounding between builds of its decoder.
    slack = 2 if "jpeg" in name or name == "webp" else 0
    np.testing.assert_allclose(pixels.astype(int), read_rgb(data).astype(int), rtol=0, atol=slack)


@pytest.mark.parametrize("name", ["jpeg", "png", "lossless webp", "webp", "palette png", "16 bit png", "bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_an_error(picture, name, kept):
    data = FILES[name](picture)
    with pytest.raises(ValueError, match=r".+"):
        decode_rgb(data[: int(len(data) * kept)])


def test_what_is_no_image_is_an_error():
    with pytest.raises(ValueError, match=r".+"):
        decode_rgb(b"<html>not found</html>" * 100)


def test_the_size_in_the_header_is_read_without_decoding(picture):
    assert image_size(FILES["jpeg"](picture)[:700]) == (120, 80)
    assert image_size(b"nothing") == (0, 0)


def test_formats_are_told_by_their_first_bytes(picture):
    assert [image_format(FILES[name](picture)) for name in ("jpeg", "png", "webp", "bmp")] == ["jpg", "png", "webp", ""]
