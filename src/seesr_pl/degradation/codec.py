"""Convert RGB images between 8-bit pixels and float32, and compress them as JPEG."""

from functools import cache
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

# OpenCV's stubs promise no element type, so a comment says what the annotation cannot.
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
    """Round float32 in [0, 1] to the nearest 8-bit level; values outside are clipped."""
    return cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255)


def to_image(pixels: Pixels) -> Image:
    """Scale 8-bit levels to float32 in [0, 1]."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


@cache
def reuse_freed_memory() -> None:
    """Make the C library keep the memory of freed images for later ones; the second call does nothing.

    glibc returns a freed block to the system if it is larger than every block mapped and freed before (up to 32 MB),
    and each page of a new block costs a page fault, together more than the filters themselves. With other C libraries
    this has no effect.
    """
    np.empty(31 << 20, np.uint8)
