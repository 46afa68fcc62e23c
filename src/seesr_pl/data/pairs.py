"""Stored pairs: an LQ image that a shard holds beside the HQ one, checked and cut at the same place."""

from typing import NamedTuple

import cv2
import numpy as np

from seesr_pl.data.decode import resize_whole


class ImagePair(NamedTuple):
    """HQ and LQ image, uint8 RGB HxWx3; `hq` is exactly a whole number of times as large as `lq`."""

    hq: np.ndarray
    lq: np.ndarray


def matched(hq: np.ndarray, lq: np.ndarray, scale: int) -> ImagePair:
    """Return the pair, with what `hq` has beyond `scale` times `lq` cut off at the bottom and right.

    Raises ValueError where `lq` is not `scale` times smaller, rounded down.
    """
    height, width = lq.shape[:2]
    if (hq.shape[0] // scale, hq.shape[1] // scale) != (height, width):
        raise ValueError(
            f"its LQ image is {width}x{height} beside {hq.shape[1]}x{hq.shape[0]}, not {scale} times smaller"
        )
    return ImagePair(hq[: height * scale, : width * scale], lq)


def crop_pair(pair: ImagePair, size: int, generator: np.random.Generator) -> ImagePair:
    """Flip and crop as `random_crop` does, both images at the same place, which begins at a pixel of `lq`.

    `size` is that of the HQ crop. Smaller images are padded by reflection, the border pixel repeated: so both match.
    """
    scale = pair.hq.shape[0] // pair.lq.shape[0]
    side = size // scale
    flip, vertical, horizontal = generator.random(3)
    height, width = max(side, pair.lq.shape[0]), max(side, pair.lq.shape[1])
    top, left = int(vertical * (height - side + 1)), int(horizontal * (width - side + 1))

    def cut(image: np.ndarray, factor: int) -> np.ndarray:
        image = np.ascontiguousarray(image[:, ::-1] if flip < 0.5 else image)
        bottom, right = height * factor - image.shape[0], width * factor - image.shape[1]
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REFLECT)
        rows, columns = (slice(start * factor, (start + side) * factor) for start in (top, left))
        return np.ascontiguousarray(image[rows, columns])

    return ImagePair(cut(pair.hq, scale), cut(pair.lq, 1))


def resize_pair(pair: ImagePair, size: int, generator: np.random.Generator) -> ImagePair:
    """Resize both images whole, as `resize_whole` does, `hq` to `size`."""
    scale = pair.hq.shape[0] // pair.lq.shape[0]
    return ImagePair(resize_whole(pair.hq, size, generator), resize_whole(pair.lq, size // scale, generator))
