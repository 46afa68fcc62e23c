"""Blur kernels: their parameters, which are a few scalars, and the matrices computed from them."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

MixedKind = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
KernelKind = Literal["sinc", MixedKind]
MIXED_KINDS: tuple[MixedKind, ...] = get_args(MixedKind)

Matrix = NDArray[np.float64]


class Kernel(NamedTuple):
    """A blur kernel by its parameters; `matrix` computes it.

    `size` is odd, in pixels; the sigmas are in pixels, `theta` is in radians, `beta` is the exponent of the generalized
    and plateau kinds, `cutoff` (radians per pixel) is that of the sinc. A parameter that a kind does not use is zero.
    """

    kind: KernelKind
    size: int
    sigma_x: float = 0.0
    sigma_y: float = 0.0
    theta: float = 0.0
    beta: float = 0.0
    cutoff: float = 0.0

    def matrix(self) -> Matrix:
        """Return the kernel (size, size), float64, summing to one."""
        if self.kind == "sinc":
            return sinc(self.size, self.cutoff)
        distance = squared_distance(self.size, self.sigma_x, self.sigma_y, theta=self.theta)
        return plateau(distance, self.beta) if self.kind.startswith("plateau") else gaussian(distance, self.beta)


def gaussian_profile(size: int, sigma: float) -> Matrix:
    """Return the one-dimensional Gaussian (size,), summing to one, whose outer square is the isotropic kernel."""
    axis = np.arange(size, dtype=np.float64) - size // 2
    return _normalized(np.exp(-0.5 * (axis / sigma) ** 2))


def squared_distance(size: int, sigma_x: float, sigma_y: float, *, theta: float) -> Matrix:
    """Return the squared Mahalanobis distance from the center, (size, size), of all Gaussian-like kernels.

    Sigmas in pixels, `theta` in radians. Source: basicsr/data/degradations.py, sigma_matrix2 and pdf2.
    """
    axis = np.arange(size, dtype=np.float64) - size // 2
    along = axis[None, :] * np.cos(theta) + axis[:, None] * np.sin(theta)
    across = axis[:, None] * np.cos(theta) - axis[None, :] * np.sin(theta)
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def gaussian(distance: Matrix, beta: float = 1.0) -> Matrix:
    """Return the generalized Gaussian exp(-distance^beta / 2) of a squared distance; `beta` = 1 is the Gaussian."""
    return _normalized(np.exp(-0.5 * distance**beta))


def plateau(distance: Matrix, beta: float) -> Matrix:
    """Return the plateau-shaped kernel 1 / (1 + distance^beta) of a squared distance."""
    return _normalized(1.0 / (1.0 + distance**beta))


def sinc(size: int, cutoff: float) -> Matrix:
    """Return the circular low-pass filter cut to (size, size), `cutoff` in radians per pixel.

    Source: basicsr/data/degradations.py, circular_lowpass_kernel.
    """
    axis = np.arange(size, dtype=np.float64) - size // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    radius[size // 2, size // 2] = 1.0
    kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalized(kernel)


def _normalized(kernel: Matrix) -> Matrix:
    return kernel / kernel.sum()
