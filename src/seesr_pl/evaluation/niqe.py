"""NIQE: how far an image's local statistics lie from those of natural photographs, without a reference.

Mittal, Soundararajan, Bovik (2013), "Making a completely blind image quality analyzer". Computed on rounded full-range
luma, as the published super-resolution tables are; the natural statistics are those published with BasicSR.
"""

import zipfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64
from scipy.special import gamma

from seesr_pl.limits import check_bytes
from seesr_pl.types import RGB

BLOCK = 96
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
ALPHAS = np.arange(0.2, 10.001, 0.001)
ALPHA_RATIOS = gamma(2 / ALPHAS) ** 2 / (gamma(1 / ALPHAS) * gamma(3 / ALPHAS))

Plane = Float64[np.ndarray, "h w"]


class NIQE:
    """Natural image quality evaluator; lower is better. Call it with a uint8 RGB image HxWx3.

    `mean` (36,) and `covariance` (36, 36) describe natural photographs, `window` (7, 7) sums to 1.
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray, window: np.ndarray) -> None:
        if mean.size != 36 or covariance.shape != (36, 36) or window.shape != (7, 7):
            raise ValueError(
                f"NIQE parameters have shapes {mean.shape}, {covariance.shape}, {window.shape}; "
                "expected 36 means, a 36x36 covariance and a 7x7 window"
            )
        self.mean, self.covariance = mean.reshape(36), covariance
        # The published values come from a window in single precision, whose sum is 1 + 1e-8. In flat regions that sum
        # decides the sign of the coefficients: in double precision the mean over RealSR would be 5.6488, not 5.6474.
        self.window = window.astype(np.float32).astype(np.float64)

    @classmethod
    def from_file(cls, path: str | Path) -> "NIQE":
        """Read `niqe_pris_params.npz` as published with BasicSR. Raises ValueError for another file."""
        file = Path(path).expanduser()
        if not file.is_file():
            raise ValueError(f"niqe_parameters={path} does not exist; it is niqe_pris_params.npz of BasicSR")
        try:
            with zipfile.ZipFile(file) as archive:
                check_bytes(sum(info.file_size for info in archive.infolist()), str(path))
            with np.load(file) as arrays:
                return cls(arrays["mu_pris_param"], arrays["cov_pris_param"], arrays["gaussian_window"])
        except (KeyError, OSError, ValueError, MemoryError, zipfile.BadZipFile) as error:
            raise ValueError(f"niqe_parameters={path} is not niqe_pris_params.npz of BasicSR: {error}") from error

    def __call__(self, image: RGB) -> float:
        """Compute NIQE of a uint8 RGB image HxWx3. Raises ValueError under 2 blocks of 96 x 96 that are not flat."""
        height, width = (side // BLOCK * BLOCK for side in image.shape[:2])
        if min(height, width) < BLOCK:
            raise ValueError(f"niqe needs at least {BLOCK} pixels a side, got {image.shape[1]}x{image.shape[0]}")
        plane = rounded_luma(image[:height, :width])
        features = np.hstack([self._features(plane, BLOCK), self._features(halved(plane), BLOCK // 2)])
        complete = features[~np.isnan(features).any(axis=1)]
        if len(complete) < 2:
            raise ValueError(
                f"niqe needs at least 2 blocks of {BLOCK}x{BLOCK} pixels that are not flat, got {len(complete)} of "
                f"{len(features)}"
            )
        difference = self.mean - np.nanmean(features, axis=0)
        spread = np.linalg.pinv((self.covariance + np.cov(complete, rowvar=False)) / 2)
        return float(np.sqrt(difference @ spread @ difference))

    def _features(self, plane: Plane, block: int) -> np.ndarray:
        local_mean = cv2.filter2D(plane, -1, self.window, borderType=cv2.BORDER_REPLICATE)
        local_square = cv2.filter2D(plane**2, -1, self.window, borderType=cv2.BORDER_REPLICATE)
        normalized = (plane - local_mean) / (np.sqrt(np.abs(local_square - local_mean**2)) + 1)
        rows, columns = (side // block for side in plane.shape)
        blocks = normalized.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(-1, block, block)
        return np.array([block_features(one) for one in blocks])


def block_features(block: Plane) -> np.ndarray:
    """Fit generalized Gaussians to a block's coefficients and to their products with 4 neighbors: 18 features."""
    alpha, left, right = asymmetric_gaussian(block)
    features = [alpha, (left + right) / 2]
    for shift in SHIFTS:
        alpha, left, right = asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        features += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    return np.array(features)


def asymmetric_gaussian(values: Plane) -> tuple[float, float, float]:
    """Fit shape alpha and the scales to the left and right of zero by moment matching (Lasmar et al., 2009)."""
    flat = values.ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt(_mean(flat[side] ** 2)) for side in (flat < 0, flat > 0))
        asymmetry = left / right
        ratio = np.mean(np.abs(flat)) ** 2 / np.mean(flat**2)
        ratio *= (asymmetry**3 + 1) * (asymmetry + 1) / (asymmetry**2 + 1) ** 2
    # A ratio that is not a number has its minimum at the first shape: so do the published values take flat blocks.
    alpha = ALPHAS[np.argmin((ALPHA_RATIOS - ratio) ** 2)]
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return float(alpha), float(left * scale), float(right * scale)


def rounded_luma(image: RGB) -> Plane:
    """Compute full-range BT.601 luma of a uint8 RGB image HxWx3, rounded to integers, as a GPU computes it.

    Half of the grays of a photograph lie within 1e-5 of a tie, so single precision decides: pixels times 1 / 255, then
    the sum by fused multiplications and additions. The published values of RealSR follow.
    """
    pixels = image.astype(np.float32) * np.float32(1 / 255)
    luma = np.zeros(image.shape[:2], np.float32)
    for channel, weight in enumerate(LUMA_WEIGHTS.astype(np.float32)):
        # A product of two single-precision numbers is exact in double precision, so this rounds once.
        luma = (pixels[..., channel].astype(np.float64) * np.float64(weight) + luma).astype(np.float32)
    return np.round(luma * np.float32(255)).astype(np.float64)


def halved(plane: Plane) -> Plane:
    """Halve the size as MATLAB's imresize does: bicubic, a = -0.5, widened against aliasing, mirrored at the border."""
    rows, columns = (_halving_weights(side) for side in plane.shape)
    return rows @ plane @ columns.T


def _halving_weights(size: int) -> np.ndarray:
    weights = np.zeros((size // 2, size))
    for row in range(size // 2):
        positions = np.arange(2 * row - 3, 2 * row + 5)
        values = _cubic((positions - (2 * row + 0.5)) / 2)
        mirrored = np.where(
            positions < 0, -1 - positions, np.where(positions >= size, 2 * size - 1 - positions, positions)
        )
        np.add.at(weights[row], mirrored, values / values.sum())
    return weights


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
