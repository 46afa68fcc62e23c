"""Decode stored images to 8-bit RGB and crop them; common formats take a fast decoder, all others Pillow."""

import io

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from seesr_pl.imaging.io import read_rgb

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_GRAY, _PNG_RGB = 0, 2


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode an image file to uint8 RGB HxWx3, EXIF orientation applied.

    Raises ValueError where the file is damaged or not an image.
    """
    decoders = {"jpg": _decode_jpeg, "png": _decode_png, "webp": _decode_webp}
    decode = decoders.get(image_format(data), read_rgb)
    try:
        return decode(data)
    except (OSError, SyntaxError, EOFError, IndexError, cv2.error) as error:
        raise ValueError(f"cannot decode an image of {len(data)} bytes: {error}") from error


def random_crop(image: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Flip with probability 0.5, then crop `size` x `size` pixels at a random place (SeeSR).

    Smaller images are padded by reflection at the bottom and right, the border pixel not repeated. uint8 HxWx3 in and
    out. Upstream: basicsr/data/realesrgan_dataset.py of SeeSR at 8edecc7.
    """
    flip, vertical, horizontal = generator.random(3)
    if flip < 0.5:
        image = image[:, ::-1]
    height, width = image.shape[:2]
    if height < size or width < size:
        bottom, right = max(0, size - height), max(0, size - width)
        image = cv2.copyMakeBorder(np.ascontiguousarray(image), 0, bottom, 0, right, cv2.BORDER_REFLECT_101)
    top = int(vertical * (image.shape[0] - size + 1))
    left = int(horizontal * (image.shape[1] - size + 1))
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def resize_whole(image: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Resize the whole image to size x size by LANCZOS, aspect ignored (DAPE); draw nothing from `generator`.

    uint8 HxWx3 in and out. Upstream: utils_data/make_paired_data_DAPE.py of SeeSR at 8edecc7.
    """
    del generator
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def image_format(data: bytes) -> str:
    """Return "jpg", "png" or "webp" by the file's first bytes; "" for anything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    if data[:8] == _PNG_MAGIC:
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def image_size(data: bytes) -> tuple[int, int]:
    """Read (width, height) from the file's header, as stored; (0, 0) where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # damage makes Pillow's parsers raise almost anything
        return 0, 0


def _decode_jpeg(data: bytes) -> np.ndarray:
    # Only EXIF can rotate a JPEG; the marker lies before the first scan, in practice in the first 64 KB.
    if b"Exif\x00\x00" in data[: 1 << 16] or simplejpeg.decode_jpeg_header(data)[2] not in ("YCbCr", "Gray"):
        return read_rgb(data)
    # Without strict=True libjpeg fills the missing part of a truncated file with gray and reports nothing.
    return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)


def _decode_png(data: bytes) -> np.ndarray:
    depth, color = data[24], data[25]
    head = data[: data.find(b"IDAT")]
    ordinary = depth == 8 and color in (_PNG_GRAY, _PNG_RGB) and b"tRNS" not in head and b"eXIf" not in data
    return _decode_cv2(data) if ordinary and data.endswith(_PNG_END) else read_rgb(data)


def _decode_webp(data: bytes) -> np.ndarray:
    # VP8X is the extended format: alpha, animation, EXIF. Lossless streams may carry alpha too (bit 28 of the header).
    whole = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    lossy = data[12:16] == b"VP8 "
    opaque = data[12:16] == b"VP8L" and len(data) > 24 and not data[24] & 0x10
    return _decode_cv2(data) if whole and (lossy or opaque) else read_rgb(data)


def _decode_cv2(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return read_rgb(data) if image is None else image
