"""Filters of float32 images (h, w, 3): blur by any kernel, unsharp masking."""

import cv2
import numpy as np
from numpy.typing import NDArray

from seesr_pl.degradation.arrays import Image
from seesr_pl.degradation.kernels import Kernel, Matrix, gaussian_profile

Spectrum = NDArray[np.complex64]

# Rings of a kernel that weigh less than float32 can show in an image of [0, 1].
NEGLIGIBLE = 2e-7
# Beyond this a product of spectra costs less than the sum over the window.
LARGEST_DIRECT_SIZE = 11


def blur(image: Image, kernel: Kernel) -> Image:
    """The image filtered by the kernel, reflected at the border without repeating the edge."""
    if kernel.kind == "iso":
        return _blur_separable(image, kernel)
    return filter2d(image, kernel.matrix())


def filter2d(image: Image, kernel: Matrix) -> Image:
    """Correlation of (h, w, 3) with an odd square kernel; basicsr/utils/img_process_util.py, filter2D."""
    kernel = _without_negligible_rings(kernel)
    if len(kernel) <= LARGEST_DIRECT_SIZE:
        return cv2.filter2D(image, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return _filter_by_spectrum(image, _spectrum(kernel, image), radius=len(kernel) // 2)


def usm_sharpen(image: Image, *, weight: float = 0.5, radius: int = 50, threshold: float = 10.0) -> Image:
    """Unsharp masking where the residual exceeds `threshold` (of 255), blended in by a soft mask.

    basicsr/utils/img_process_util.py, USMSharp. In [0, 1], and so is the result.
    """
    size = 2 * (radius // 2) + 1
    # OpenCV's automatic sigma (imgproc, getGaussianKernel).
    profile = gaussian_profile(size, 0.3 * ((size - 1) * 0.5 - 1) + 0.8)
    spectrum = _spectrum(np.outer(profile, profile), image)
    residual = cv2.subtract(image, _filter_by_spectrum(image, spectrum, radius=size // 2))
    mask = (np.abs(residual) > threshold / 255).astype(np.float32)
    soft_mask = _filter_by_spectrum(mask, spectrum, radius=size // 2)
    change = cv2.scaleAdd(residual, weight, image)
    np.clip(change, 0, 1, out=change)
    change -= image
    change *= soft_mask
    change += image
    return change


def _blur_separable(image: Image, kernel: Kernel) -> Image:
    profile = gaussian_profile(kernel.size, kernel.sigma_x)
    while len(profile) > 1 and 2 * profile[0] < NEGLIGIBLE:
        profile = profile[1:-1]
    return cv2.sepFilter2D(image, cv2.CV_32F, profile, profile, borderType=cv2.BORDER_REFLECT_101)


def _without_negligible_rings(kernel: Matrix) -> Matrix:
    while len(kernel) > 1 and np.abs(kernel).sum() - np.abs(kernel[1:-1, 1:-1]).sum() < NEGLIGIBLE:
        kernel = kernel[1:-1, 1:-1]
    return kernel


def _spectrum(kernel: Matrix, image: Image) -> Spectrum:
    # Among the lengths of small prime factors those that 16 divides are about twice as fast.
    lengths = (side + len(kernel) - 1 for side in image.shape[:2])
    padded = np.zeros([16 * cv2.getOptimalDFTSize(-(-length // 16)) for length in lengths], np.complex64)
    padded[: len(kernel), : len(kernel)] = kernel
    return _transform(padded).conj()


def _filter_by_spectrum(image: Image, spectrum: Spectrum, *, radius: int) -> Image:
    height, width = image.shape[:2]
    borders = (radius, len(spectrum) - height - radius, radius, spectrum.shape[1] - width - radius)
    padded = cv2.copyMakeBorder(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), *borders, cv2.BORDER_REFLECT_101)
    # The kernel is real, so one complex transform filters two channels, as its real and its imaginary part.
    planes = [np.ascontiguousarray(padded.view(np.complex64)[..., pair]) for pair in range(2)]
    filtered = [_correlate(plane, spectrum)[:height, :width] for plane in planes]
    result = np.empty_like(image)
    cv2.mixChannels([_real_pairs(plane) for plane in filtered], [result], [0, 0, 1, 1, 2, 2])
    return result


def _correlate(plane: Spectrum, spectrum: Spectrum) -> Spectrum:
    product = _transform(plane)
    product *= spectrum
    return _transform(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)


def _transform(plane: Spectrum, *, flags: int = 0) -> Spectrum:
    # In place: a transform owns its input here.
    cv2.dft(_real_pairs(plane), _real_pairs(plane), flags)
    return plane


def _real_pairs(plane: Spectrum) -> Image:
    return plane.view(np.float32).reshape(*plane.shape, 2)
