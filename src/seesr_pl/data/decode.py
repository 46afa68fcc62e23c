"""Decode stored images to 8-bit RGB and crop them."""

import io

import cv2
import numpy as np
from PIL import Image

from seesr_pl.imaging.io import READ_FORMATS, read_rgb
from seesr_pl.imaging.metadata import PNG_MAGIC, without_metadata


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode an image file to uint8 RGB HxWx3, EXIF orientation applied, as every command does.

    Raises ValueError where the file is damaged or not an image.
    """
    return read_rgb(data)


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
    if data[:8] == PNG_MAGIC:
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def image_size(data: bytes) -> tuple[int, int]:
    """Read (width, height) from the file's header, as stored; (0, 0) where it cannot be read."""
    try:
        with Image.open(io.BytesIO(without_metadata(data)), formats=READ_FORMATS) as image:
            return image.size
    except Exception:  # damage makes Pillow's parsers raise almost anything
        return 0, 0
