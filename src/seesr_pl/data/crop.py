"""How a training crop is taken from a whole image, one policy for each stage."""

import cv2
import numpy as np
from PIL import Image


def random_crop(image: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Flip at 0.5, reflect-pad at the bottom and right if smaller, crop size x size anywhere (SeeSR).

    Upstream: basicsr/data/realesrgan_dataset.py of SeeSR at 8edecc7; its border is not repeated. uint8 HxWx3.
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
    """The whole image at size x size, aspect ignored, LANCZOS (DAPE); nothing is drawn from `generator`.

    Upstream: utils_data/make_paired_data_DAPE.py of SeeSR at 8edecc7. uint8 HxWx3 in and out.
    """
    del generator
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
