"""Resizing of float32 images (h, w, 3) by torch's rules of interpolation, on the CPU and fast."""

from typing import Literal, get_args

import cv2
import numpy as np

from seesr_pl.degradation.arrays import Image

ResizeMode = Literal["area", "bilinear", "bicubic"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)


def resize(image: Image, height: int, width: int, *, mode: ResizeMode) -> Image:
    """The image at (height, width) as `torch.nn.functional.interpolate(size=..., mode=...)` gives it.

    No antialiasing; bicubic may leave [0, 1].
    """
    if image.shape[:2] == (height, width):
        return image
    if mode == "area":
        return _average_rows(_average_rows(image, height).transpose(1, 0, 2), width).transpose(1, 0, 2)
    interpolation = cv2.INTER_LINEAR if mode == "bilinear" else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _average_rows(image: Image, height: int) -> Image:
    # Adaptive pooling: each output averages all source rows that it touches. cv2.INTER_AREA weighs them by coverage
    # instead, and interpolates linearly when it enlarges.
    rows = len(image)
    first = np.arange(height) * rows // height
    count = -(-(np.arange(1, height + 1) * rows) // height) - first
    total = np.zeros((height, *image.shape[1:]), np.float32)
    for step in range(count.max()):
        weight = np.where(step < count, 1 / count, 0).astype(np.float32)
        total += image[np.minimum(first + step, rows - 1)] * weight[:, None, None]
    return total
