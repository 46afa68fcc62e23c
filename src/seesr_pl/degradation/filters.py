"""Filters of float32 images (h, w, 3): blur by any kernel, unsharp masking."""

import cv2
import numpy as np

from seesr_pl.degradation.arrays import Image
from seesr_pl.degradation.kernels import Kernel, Matrix

# Rings of a kernel that weigh less than float32 can show in an image of [0, 1].
NEGLIGIBLE = 2e-7
# Beyond these a product of spectra costs less than the sum over the window.
LARGEST_DIRECT_SIZE = 11
LARGEST_DIRECT_PIXELS = 200 * 200


def blur(image: Image, kernel: Kernel) -> Image:
    """The image filtered by the kernel, reflected at the border without repeating the edge."""
    if kernel.kind == "iso":
        return _blur_separable(image, kernel)
    return filter2d(image, kernel.matrix())


def filter2d(image: Image, kernel: Matrix) -> Image:
    """Correlation of (h, w, 3) with an odd square kernel; basicsr/utils/img_process_util.py, filter2D."""
    kernel = _without_negligible_rings(kernel)
    direct = len(kernel) <= LARGEST_DIRECT_SIZE or image.shape[0] * image.shape[1] <= LARGEST_DIRECT_PIXELS
    if direct:
        return cv2.filter2D(image, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return _filter_by_spectrum(image, kernel)


def usm_sharpen(image: Image, *, weight: float = 0.5, radius: int = 50, threshold: float = 10.0) -> Image:
    """Unsharp masking where the residual exceeds `threshold` (of 255), blended in by a soft mask.

    basicsr/utils/img_process_util.py, USMSharp. In [0, 1], and so is the result.
    """
    profile = cv2.getGaussianKernel(radius + 1 - radius % 2, 0)
    residual = image - _separable(image, profile)
    mask = (np.abs(residual) > threshold / 255).astype(np.float32)
    soft_mask = _separable(mask, profile)
    sharp = np.clip(image + weight * residual, 0, 1)
    return image + soft_mask * (sharp - image)


def _blur_separable(image: Image, kernel: Kernel) -> Image:
    axis = np.arange(kernel.size, dtype=np.float64) - kernel.size // 2
    profile = np.exp(-0.5 * (axis / kernel.sigma_x) ** 2)
    profile /= profile.sum()
    while len(profile) > 1 and 2 * profile[0] < NEGLIGIBLE:
        profile = profile[1:-1]
    return _separable(image, profile / profile.sum())


def _separable(image: Image, profile: Matrix) -> Image:
    return cv2.sepFilter2D(image, cv2.CV_32F, profile, profile, borderType=cv2.BORDER_REFLECT_101)


def _without_negligible_rings(kernel: Matrix) -> Matrix:
    while len(kernel) > 1 and np.abs(kernel).sum() - np.abs(kernel[1:-1, 1:-1]).sum() < NEGLIGIBLE:
        kernel = kernel[1:-1, 1:-1]
    return kernel


def _filter_by_spectrum(image: Image, kernel: Matrix) -> Image:
    height, width = image.shape[:2]
    radius = len(kernel) // 2
    rows, columns = _fast_length(height + 2 * radius), _fast_length(width + 2 * radius)
    # The real and imaginary part of one complex transform carry two channels, as the kernel is real.
    borders = (radius, rows - height - radius, radius, columns - width - radius)
    padded = cv2.copyMakeBorder(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), *borders, cv2.BORDER_REFLECT_101)
    transfer = np.zeros((rows, columns, 2), np.float32)
    transfer[: len(kernel), : len(kernel), 0] = kernel
    transfer = cv2.dft(transfer, nonzeroRows=len(kernel))
    red_green, blue_alpha = (_correlate(padded[..., pair], transfer) for pair in (slice(2), slice(2, 4)))
    return np.dstack([red_green[:height, :width], blue_alpha[:height, :width, :1]])


def _correlate(pair: Image, transfer: Image) -> Image:
    spectrum = cv2.mulSpectrums(cv2.dft(np.ascontiguousarray(pair)), transfer, 0, conjB=True)
    return cv2.dft(spectrum, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)


def _fast_length(length: int) -> int:
    # Among the lengths of small prime factors those with a large power of two are twice as fast.
    return 16 * cv2.getOptimalDFTSize(-(-length // 16))
