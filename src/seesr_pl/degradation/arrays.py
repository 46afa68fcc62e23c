"""The two forms of an image here, RGB with the channel last, and the way between them."""

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
