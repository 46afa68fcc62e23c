"""Fidelity metrics as the field reports them: PSNR and SSIM on limited-range luma, and PSNR on RGB.

Protocol of the published tables: 8-bit images as read from the file, BT.601 luma in [16, 235], no border cropped.
Full-range luma, another common choice, gives values lower by 20 log10(255/219) = 1.32 dB.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor
from torchmetrics import Metric

RGB = UInt8[np.ndarray, "h w 3"]
Luma = Float64[np.ndarray, "h w"]

# ITU-R BT.601, 8-bit limited range.
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
LUMA_OFFSET = 16.0
PEAK = 255.0
# Wang et al. (2004), "Image quality assessment: from error visibility to structural similarity", section III.C.
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def psnr_y(sr: RGB, hr: RGB) -> float:
    """Peak signal-to-noise ratio in dB on limited-range luma with peak 255; infinite for equal images."""
    _check_pair(sr, hr)
    return _psnr(luma(sr), luma(hr))


def psnr_rgb(sr: RGB, hr: RGB) -> float:
    """Peak signal-to-noise ratio in dB over the three channels together; infinite for equal images."""
    _check_pair(sr, hr)
    return _psnr(sr.astype(np.float64), hr.astype(np.float64))


def ssim_y(sr: RGB, hr: RGB) -> float:
    """Structural similarity on limited-range luma rounded to integers, in [0, 1].

    11x11 Gaussian window with sigma 1.5, windows inside the image only, contrast-structure term clamped at 0.
    Raises ValueError for a side under 11 pixels.
    """
    _check_pair(sr, hr)
    if min(sr.shape[:2]) < WINDOW_SIZE:
        raise ValueError(f"ssim_y needs at least {WINDOW_SIZE} pixels a side, got {_size(sr)}")
    return _ssim(np.round(luma(sr)), np.round(luma(hr)))


def luma(image: RGB) -> Luma:
    """BT.601 luma of an 8-bit RGB image, in [16, 235], not rounded."""
    return image.astype(np.float64) @ LUMA_WEIGHTS + LUMA_OFFSET


class _MeanOverImages(Metric):
    """The mean of one function of (sr, hr) over all images of all processes."""

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, sr: UInt8[Tensor, "b h w 3"], hr: UInt8[Tensor, "b h w 3"]) -> None:
        """Add a batch of uint8 RGB images, channel last, on any device."""
        for one_sr, one_hr in zip(sr.cpu().numpy(), hr.cpu().numpy(), strict=True):
            self.total += self._value(one_sr, one_hr)
            self.count += 1

    def compute(self) -> Float[Tensor, ""]:
        """The mean so far; not a number before the first image."""
        return self.total / self.count

    def _value(self, sr: RGB, hr: RGB) -> float:
        raise NotImplementedError


class PSNRY(_MeanOverImages):
    """Mean of `psnr_y` over images, as a torchmetrics Metric."""

    def _value(self, sr: RGB, hr: RGB) -> float:
        return psnr_y(sr, hr)


class SSIMY(_MeanOverImages):
    """Mean of `ssim_y` over images, as a torchmetrics Metric."""

    def _value(self, sr: RGB, hr: RGB) -> float:
        return ssim_y(sr, hr)


def _psnr(sr: np.ndarray, hr: np.ndarray) -> float:
    error = float(np.mean((sr - hr) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(PEAK**2 / error))


def _ssim(sr: Luma, hr: Luma) -> float:
    mean_sr, mean_hr = _window_mean(sr), _window_mean(hr)
    variance_sr = _window_mean(sr * sr) - mean_sr**2
    variance_hr = _window_mean(hr * hr) - mean_hr**2
    covariance = _window_mean(sr * hr) - mean_sr * mean_hr
    contrast_structure = (2 * covariance + SSIM_C2) / (variance_sr + variance_hr + SSIM_C2)
    luminance = (2 * mean_sr * mean_hr + SSIM_C1) / (mean_sr**2 + mean_hr**2 + SSIM_C1)
    return float(np.mean(luminance * np.maximum(contrast_structure, 0)))


def _window_mean(image: Luma) -> Luma:
    window = cv2.getGaussianKernel(WINDOW_SIZE, WINDOW_SIGMA)
    margin = WINDOW_SIZE // 2
    return cv2.sepFilter2D(image, -1, window, window)[margin:-margin, margin:-margin]


def _check_pair(sr: RGB, hr: RGB) -> None:
    for name, image in (("sr", sr), ("hr", hr)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name} must be a uint8 RGB array HxWx3, got {image.dtype} {image.shape}")
    if sr.shape != hr.shape:
        raise ValueError(f"sr is {_size(sr)} and hr is {_size(hr)} (width x height); both must have the same size")


def _size(image: RGB) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
