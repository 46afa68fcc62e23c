"""Whatever the file, the pixels are the correct 8-bit RGB, and a damaged file is an error."""

import io

import numpy as np
import pytest
from PIL import Image

from seesr_pl.data.decode import decode_rgb, image_format, image_size, random_crop, resize_whole
from seesr_pl.imaging.io import read_rgb
from seesr_pl.keyed import numpy_generator


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


def numbered(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell their place."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_a_crop_is_a_window_flipped_or_not_and_reaches_every_place():
    image = numbered(40, 50)
    tops, lefts, places, flips = set(), set(), set(), 0
    for number in range(600):
        crop = random_crop(image, 32, numpy_generator(number)).astype(int)
        flipped = crop[0, 0, 1] > crop[0, -1, 1]
        straight = crop[:, ::-1] if flipped else crop
        top, left = straight[0, 0, :2]
        np.testing.assert_array_equal(straight, image[top : top + 32, left : left + 32])
        tops.add(int(top))
        lefts.add(int(left))
        places.add((bool(flipped), int(top), int(left)))
        flips += bool(flipped)
    # Of 2 x 9 x 19 places 600 independent draws miss about a sixth.
    assert len(places) > 250
    assert tops == set(range(9))
    assert lefts == set(range(19))
    assert 240 < flips < 360


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (10, 9)])
def test_a_small_image_is_reflected_at_the_bottom_and_right_without_repeating_its_border(shape):
    image = numbered(*shape)
    padded = np.pad(image, [(0, max(0, 32 - shape[0])), (0, max(0, 32 - shape[1])), (0, 0)], mode="reflect")
    flipped = np.pad(image[:, ::-1], [(0, max(0, 32 - shape[0])), (0, max(0, 32 - shape[1])), (0, 0)], mode="reflect")
    for number in range(20):
        crop = random_crop(image, 32, numpy_generator(number))
        windows = [
            whole[top : top + 32, left : left + 32]
            for whole in (padded, flipped)
            for top in range(whole.shape[0] - 31)
            for left in range(whole.shape[1] - 31)
        ]
        assert any(np.array_equal(crop, window) for window in windows)


def test_dape_resizes_the_whole_image_and_ignores_its_aspect():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(resize_whole(image, 32, numpy_generator(0)), expected)
