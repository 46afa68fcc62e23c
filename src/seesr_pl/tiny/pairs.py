"""Held-out photographs as a small benchmark: crops, and the same crops degraded by the official chain."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from seesr_pl import keyed
from seesr_pl.degradation import RealESRGANDegradation, recorded
from seesr_pl.evaluation.benchmark import MadePair
from seesr_pl.tiny.photographs import Photograph

# Keys these draws apart from those of training, whatever its seed.
_PURPOSE = "photo_pairs"


def photo_pairs(
    photos: Sequence[Photograph],
    *,
    crop_size: int,
    crops_per_photo: int,
    debian_root: str | Path | None = None,
    seed: int = 0,
) -> Iterator[MadePair]:
    """Yield crops of `crop_size` at places keyed by (seed, photograph, number), each degraded by the official chain.

    As in official training the reference is the sharpened crop. A photograph smaller than a crop is enlarged to it.
    """
    chain = RealESRGANDegradation()
    for photo in photos:
        image = _at_least(photo.read(debian_root), crop_size)
        for number in range(crops_per_photo):
            generator = keyed.numpy_generator(seed, photo.name, number, _PURPOSE)
            top, left = (int(generator.integers(side - crop_size + 1)) for side in image.shape[:2])
            crop = np.ascontiguousarray(image[top : top + crop_size, left : left + crop_size])
            params = chain.sample(keyed.key(seed, _PURPOSE), 0, keyed.key(photo.name, number))
            hq, lq = chain.apply(crop, params)
            yield MadePair(f"{photo.name}_{number}", hq, lq, params.severity, params.kind, recorded(chain, params))


def _at_least(image: np.ndarray, side: int) -> np.ndarray:
    factor = side / min(image.shape[:2])
    if factor <= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
