"""Filter float32 images (h, w, 3): blur by any kernel, sharpen by unsharp masking, resize as torch does."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seesr_pl.degradation.codec import Image
from seesr_pl.degradation.kernels import Kernel, Matrix, gaussian_profile

Spectrum = NDArray[np.complex64]
ResizeMode = Literal["area", "bilinear", "bicubic"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)

# The outer rings of a kernel are dropped while their total weight is below what float32 can show in [0, 1].
NEGLIGIBLE = 2e-7
# Above this size, in pixels, a product of spectra costs less than the sum over the window.
LARGEST_DIRECT_SIZE = 11


def blur(image: Image, kernel: Kernel) -> Image:
    """Filter (h, w, 3) by the kernel; the image is reflected at its border without repeating the border pixel."""
    if kernel.kind == "iso":
        return _blur_separable(image, kernel)
    return filter2d(image, kernel.matrix())


def filter2d(image: Image, kernel: Matrix) -> Image:
    """Correlate (h, w, 3) with a square kernel of odd size; basicsr/utils/img_process_util.py, filter2D."""
    kernel = _without_negligible_rings(kernel)
    if len(kernel) <= LARGEST_DIRECT_SIZE:
        return cv2.filter2D(image, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    red, green, blue = cv2.split(image)
    spectrum = _spectrum(kernel, image.shape[0], image.shape[1])
    filtered_red, filtered_green = _filter_pair(red, green, spectrum, radius=len(kernel) // 2)
    filtered_blue, _ = _filter_pair(blue, blue, spectrum, radius=len(kernel) // 2)
    return cv2.merge([filtered_red, filtered_green, filtered_blue])


def usm_sharpen(image: Image, *, weight: float = 0.5, radius: int = 50, threshold: float = 10.0) -> Image:
    """Sharpen by unsharp masking where the residual exceeds `threshold` (of 255), blended by a soft mask.

    The image and the result are in [0, 1]; `radius` is the size of the Gaussian in pixels, made odd.
    Source: basicsr/utils/img_process_util.py, USMSharp.
    """
    spectrum = _usm_spectrum(image.shape[0], image.shape[1], radius)

    def smooth(first: Image, second: Image) -> Sequence[Image]:
        return _filter_pair(first, second, spectrum, radius=radius // 2)

    def mask(plane: Image, smoothed: Image) -> Image:
        return (cv2.absdiff(plane, smoothed) > threshold / 255).astype(np.float32)

    def blend(plane: Image, smoothed: Image, soft_mask: Image) -> Image:
        sharp = np.clip(cv2.addWeighted(plane, 1 + weight, smoothed, -weight, 0), 0, 1)
        return plane + soft_mask * (sharp - plane)

    # Three transforms of two planes each smooth all six planes: blue is paired with the mask of red.
    red, green, blue = cv2.split(image)
    smooth_red, smooth_green = smooth(red, green)
    smooth_blue, soft_red = smooth(blue, mask(red, smooth_red))
    soft_green, soft_blue = smooth(mask(green, smooth_green), mask(blue, smooth_blue))
    planes = ((red, smooth_red, soft_red), (green, smooth_green, soft_green), (blue, smooth_blue, soft_blue))
    return cv2.merge([blend(*plane) for plane in planes])


def resize(image: Image, height: int, width: int, *, mode: ResizeMode) -> Image:
    """Resize to (height, width) as `torch.nn.functional.interpolate(size=..., mode=...)` does.

    No antialiasing; bicubic may leave [0, 1].
    """
    if image.shape[:2] == (height, width):
        return image
    if mode == "area":
        return cv2.transpose(_average_rows(cv2.transpose(_average_rows(image, height)), width))
    interpolation = cv2.INTER_LINEAR if mode == "bilinear" else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def adaptive_average(length: int, new_length: int) -> csr_matrix:
    """Return the float32 matrix (new_length, length) of torch's adaptive average pooling.

    Each output is the plain mean of all inputs that it touches. cv2.INTER_AREA weights them by coverage instead, and
    interpolates linearly when it enlarges.
    """
    first = np.arange(new_length) * length // new_length
    count = -(-np.arange(1, new_length + 1) * length // new_length) - first
    ends = np.concatenate([[0], np.cumsum(count)])
    columns = np.arange(ends[-1]) + np.repeat(first - ends[:-1], count)
    weights = np.repeat((1 / count).astype(np.float32), count)
    return csr_matrix((weights, columns, ends), shape=(new_length, length))


def _average_rows(image: Image, height: int) -> Image:
    flat = adaptive_average(len(image), height) @ image.reshape(len(image), -1)
    return flat.reshape(height, *image.shape[1:])


@lru_cache(maxsize=4)
def _usm_spectrum(height: int, width: int, radius: int) -> Spectrum:
    size = 2 * (radius // 2) + 1
    # OpenCV's automatic sigma (imgproc, getGaussianKernel).
    profile = gaussian_profile(size, 0.3 * ((size - 1) * 0.5 - 1) + 0.8)
    return _spectrum(np.outer(profile, profile), height, width)


def _blur_separable(image: Image, kernel: Kernel) -> Image:
    profile = gaussian_profile(kernel.size, kernel.sigma_x)
    while len(profile) > 1 and 2 * profile[0] < NEGLIGIBLE:
        profile = profile[1:-1]
    return cv2.sepFilter2D(image, cv2.CV_32F, profile, profile, borderType=cv2.BORDER_REFLECT_101)


def _without_negligible_rings(kernel: Matrix) -> Matrix:
    while len(kernel) > 1 and np.abs(kernel).sum() - np.abs(kernel[1:-1, 1:-1]).sum() < NEGLIGIBLE:
        kernel = kernel[1:-1, 1:-1]
    return kernel


def _spectrum(kernel: Matrix, height: int, width: int) -> Spectrum:
    """Return the spectrum by which to multiply that of an image of this size to correlate it with the kernel."""
    # Of the lengths with small prime factors, multiples of 16 are about twice as fast.
    rows, columns = (16 * cv2.getOptimalDFTSize(-(-(side + len(kernel) - 1) // 16)) for side in (height, width))
    padded = np.zeros((rows, columns, 2), np.float32)
    padded[: len(kernel), : len(kernel), 0] = kernel
    return cv2.dft(padded).view(np.complex64).conj()


def _filter_pair(first: Image, second: Image, spectrum: Spectrum, *, radius: int) -> Sequence[Image]:
    # The kernel is real, so one complex transform filters two planes: one as real, one as imaginary part.
    height, width = first.shape
    borders = (radius, len(spectrum) - height - radius, radius, spectrum.shape[1] - width - radius)
    pair = cv2.copyMakeBorder(cv2.merge([first, second]), *borders, cv2.BORDER_REFLECT_101)
    cv2.dft(pair, pair)
    product = pair.view(np.complex64)
    product *= spectrum
    cv2.dft(pair, pair, cv2.DFT_INVERSE | cv2.DFT_SCALE)
    return cv2.split(pair[:height, :width])
