"""The two forms of an image here, RGB with the channel last, and the way between them."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# OpenCV's stubs promise no element type, so the aliases say in words what the annotation cannot.
Image = NDArray[Any]  # float32 in [0, 1]
Pixels = NDArray[Any]  # uint8


def to_pixels(image: Image) -> Pixels:
    """[0, 1] to the nearest 8-bit level; what lies outside is clipped."""
    return cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255)


def to_image(pixels: Pixels) -> Image:
    """8-bit levels to [0, 1]."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


@cache
def reuse_freed_memory() -> None:
    """Have the C library keep the pages of freed images for the next ones.

    glibc returns a block to the system once it exceeds the largest that was ever mapped and freed (at most 32 MB), and
    every page of a new block costs a fault, in all more than the filters themselves. Elsewhere this does nothing.
    """
    np.empty(31 << 20, np.uint8)
