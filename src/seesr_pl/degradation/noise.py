"""Add Gaussian and Poisson noise to float32 images (h, w, 3) in [0, 1].

The noise of a sample is a slice of a fixed bank of random numbers, so one integer, the offset, reproduces it, and
drawing costs no more than reading. The banks and tables (67 MB) are built on first use; call `build_banks` before a
fork to share them with the children.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from seesr_pl import keyed
from seesr_pl.degradation.codec import Image, Pixels, to_pixels

BANK_SIZE = 1 << 23
MAX_OFFSET = 1 << 22
# With finer quantiles the table (4 bytes x 256 levels x 2048) would not fit in the processor's cache.
UNIFORM_BITS = 11
GRAY_WEIGHTS = np.array([[0.2989, 0.587, 0.114]], np.float32)


def build_banks() -> None:
    """Build both banks and the tables now; processes forked afterwards share their memory."""
    _normal_bank()
    _uniform_bank()
    for bits in range(9):
        _poisson_table(1 << bits)


def add_gaussian_noise(image: Image, sigma: float, *, gray: bool, offset: int) -> Image:
    """Add normal noise of `sigma` (of 255) and clip to [0, 1]; `gray`: the same noise in all channels.

    `offset` is the start of the slice, in [0, MAX_OFFSET).
    """
    noise = _slice(_normal_bank(), offset, image.shape[:2] if gray else image.shape)
    return add_noise(image, noise, sigma / 255)


def add_poisson_noise(image: Image, scale: float, *, gray: bool, offset: int) -> Image:
    """Add Poisson noise times `scale` and clip to [0, 1]; `gray`: that of the gray image in all channels.

    `offset` is the start of the slice, in [0, MAX_OFFSET).
    """
    levels = to_pixels(cv2.transform(image, GRAY_WEIGHTS) if gray else image)
    uniform = _slice(_uniform_bank(), offset, levels.shape)
    index = levels.astype(np.intp)
    index <<= UNIFORM_BITS
    index |= uniform
    # Every index is in range; "clip" only spares numpy the check.
    return add_noise(image, _poisson_table(poisson_peak(levels)).take(index, mode="clip"), scale)


def add_noise(image: Image, noise: Image, scale: float) -> Image:
    """Return image + noise * scale, clipped to [0, 1]; noise is (h, w, 3), or (h, w), the same for all channels."""
    if noise.ndim == 2:
        noise = cv2.merge([noise, noise, noise])
    noisy = cv2.scaleAdd(noise, scale, image)
    return np.clip(noisy, 0, 1, out=noisy)


def poisson_peak(levels: Pixels) -> int:
    """Count the photons at full white: the number of distinct levels, rounded up to a power of two.

    basicsr/data/degradations.py, generate_poisson_noise_pt.
    """
    # Beyond 128 levels the result is always 256, and most images reach that in every 31st pixel.
    few = np.count_nonzero(np.bincount(levels.ravel()[::31], minlength=256))
    count = few if few > 128 else np.count_nonzero(np.bincount(levels.ravel(), minlength=256))
    return 1 << (int(count) - 1).bit_length()


@cache
def _normal_bank() -> NDArray[np.float32]:
    return keyed.numpy_generator("degradation", "normal bank").standard_normal(BANK_SIZE, dtype=np.float32)


@cache
def _uniform_bank() -> NDArray[np.uint16]:
    generator = keyed.numpy_generator("degradation", "uniform bank")
    return generator.integers(1 << UNIFORM_BITS, size=BANK_SIZE, dtype=np.uint16)


@cache
def _poisson_table(peak: int) -> NDArray[np.float32]:
    """Return the noise Poisson(x * peak) / peak - x by (level, uniform): the inverse cumulative distribution."""
    quantiles = (np.arange(1 << UNIFORM_BITS) + 0.5) / (1 << UNIFORM_BITS)
    photons = np.arange(peak + 6 * int(np.sqrt(peak)) + 10)
    white = np.arange(256) / 255
    counts = [np.searchsorted(pdtr(photons, rate), quantiles) for rate in white * peak]
    return (np.stack(counts) / peak - white[:, None]).astype(np.float32).ravel()


def _slice(bank: NDArray[Any], offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
    size = int(np.prod(shape))
    if offset + size <= len(bank):
        return bank[offset : offset + size].reshape(shape)
    return bank.take(np.arange(offset, offset + size), mode="wrap").reshape(shape)
