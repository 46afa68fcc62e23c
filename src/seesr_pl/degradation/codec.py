"""The two forms of an RGB image, 8-bit pixels and float32, the way between them, and JPEG."""

from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

# OpenCV's stubs promise no element type, so the aliases say in words what the annotation cannot.
Image = NDArray[Any]  # float32 in [0, 1], channel last
Pixels = NDArray[Any]  # uint8, channel last
ChromaUpsampling = Literal["nearest", "fancy"]


def jpeg(pixels: Pixels, quality: int, *, chroma_upsampling: ChromaUpsampling = "nearest") -> Pixels:
    """Compress uint8 RGB (h, w, 3) at `quality` (1 to 100) with libjpeg, 4:2:0, and decode it.

    "nearest" repeats chroma, as the official DiffJPEG does (basicsr/utils/diffjpeg.py); "fancy" smooths it, as
    image viewers do.
    """
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    nearest = chroma_upsampling == "nearest"
    return simplejpeg.decode_jpeg(code, "RGB", fastdct=False, fastupsample=nearest)


def to_pixels(image: Image) -> Pixels:
    """Round float32 in [0, 1] to the nearest 8-bit level; clip what lies outside."""
    return cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255)


def to_image(pixels: Pixels) -> Image:
    """Scale 8-bit levels to float32 in [0, 1]."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


@cache
def reuse_freed_memory() -> None:
    """Make the C library keep the memory of freed images for the next ones; call it once per process.

    glibc returns a block to the system once it exceeds the largest that was ever mapped and freed (at most 32 MB), and
    every page of a new block costs a fault, in all more than the filters themselves. Elsewhere this does nothing.
    """
    np.empty(31 << 20, np.uint8)
