"""Resizing of float32 images (h, w, 3) by torch's rules of interpolation, on the CPU and fast."""

from typing import Literal, get_args

import cv2
import numpy as np
from scipy.sparse import csr_matrix

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
        return cv2.transpose(_average_rows(cv2.transpose(_average_rows(image, height)), width))
    interpolation = cv2.INTER_LINEAR if mode == "bilinear" else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _average_rows(image: Image, height: int) -> Image:
    flat = adaptive_average(len(image), height) @ image.reshape(len(image), -1)
    return flat.reshape(height, *image.shape[1:])


def adaptive_average(length: int, new_length: int) -> csr_matrix:
    """The float32 matrix (new_length, length) of torch's adaptive average pooling.

    Each output is the plain mean of all the inputs that it touches. cv2.INTER_AREA weighs them by coverage instead,
    and interpolates linearly when it enlarges.
    """
    first = np.arange(new_length) * length // new_length
    count = -(-np.arange(1, new_length + 1) * length // new_length) - first
    ends = np.concatenate([[0], np.cumsum(count)])
    columns = np.arange(ends[-1]) + np.repeat(first - ends[:-1], count)
    weights = np.repeat((1 / count).astype(np.float32), count)
    return csr_matrix((weights, columns, ends), shape=(new_length, length))
