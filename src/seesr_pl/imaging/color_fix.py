"""Give a restored image the colors of its low-quality image: AdaIN and wavelet (utils/wavelet_color_fix.py)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from seesr_pl.imaging.tensors import to_float

ColorFix = Literal["adain", "wavelet", "none"]

_WAVELET_DILATIONS = (1, 2, 4, 8, 16)
_WAVELET_REACH = sum(_WAVELET_DILATIONS)
_BAND = 256


def adain(x: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 h2 w2"]) -> Float[Tensor, "b 3 h w"]:
    """Return `x` with the mean and the (unbiased) deviation of `reference`, per image and channel; unclamped.

    Both in [0, 1]; the sizes may differ (wavelet_color_fix.py:52-77).
    """
    mean, deviation = _mean_and_deviation(x)
    reference_mean, reference_deviation = _mean_and_deviation(reference)
    return (x - mean) / deviation * reference_deviation + reference_mean


def wavelet(x: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return the detail of `x` on the five times blurred `reference`; unclamped (wavelet_color_fix.py:95-119).

    Both in [0, 1], of one size.
    """
    return x - _blurred(x) + _blurred(reference)


def fix_colors(
    images: UInt8[Tensor, "b h w 3"], reference: UInt8[Tensor, "b h w 3"], *, method: ColorFix
) -> UInt8[Tensor, "b h w 3"]:
    """Apply the official color fix to 8-bit images, band by band, so that a large image is never copied as float.

    The result is truncated to 8 bits, as in the official conversion (torchvision's ToPILImage).
    Raises ValueError where the two shapes differ.
    """
    if images.shape != reference.shape:
        raise ValueError(f"images {tuple(images.shape)} and reference {tuple(reference.shape)} must have one shape")
    if method == "none":
        return images
    result = torch.empty_like(images)
    moments = (_streamed_moments(images), _streamed_moments(reference)) if method == "adain" else None
    for top in range(0, images.shape[1], _BAND):
        bottom = min(top + _BAND, images.shape[1])
        if moments is None:
            fixed = _wavelet_band(images, reference, top, bottom)
        else:
            (mean, deviation), (reference_mean, reference_deviation) = moments
            fixed = (to_float(images[:, top:bottom]) - mean) / deviation * reference_deviation + reference_mean
        result[:, top:bottom] = fixed.clamp_(0, 1).mul_(255).to(torch.uint8).permute(0, 2, 3, 1)
    return result


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=1)
    return mean, (variance + 1e-5).sqrt()


def _streamed_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    count = images.shape[1] * images.shape[2]
    total = torch.zeros(images.shape[0], 3, dtype=torch.int64, device=images.device)
    squares = total.clone()
    for top in range(0, images.shape[1], _BAND):
        # Sums of integers are exact, whatever the size of the image.
        band = images[:, top : top + _BAND].flatten(1, 2).long()
        total += band.sum(1)
        squares += band.square().sum(1)
    variance = (squares.double() - total.double().square() / count) / max(count - 1, 1) / 255**2
    mean, deviation = total.double() / count / 255, (variance + 1e-5).sqrt()
    return mean.float()[..., None, None], deviation.float()[..., None, None]


def _wavelet_band(images: Tensor, reference: Tensor, top: int, bottom: int) -> Tensor:
    start, stop = max(top - _WAVELET_REACH, 0), min(bottom + _WAVELET_REACH, images.shape[1])
    fixed = wavelet(to_float(images[:, start:stop]), to_float(reference[:, start:stop]))
    return fixed[:, :, top - start : fixed.shape[2] - (stop - bottom)]


def _blurred(x: Tensor) -> Tensor:
    for dilation in _WAVELET_DILATIONS:
        x = wavelet_blur(x, dilation)
    return x


def wavelet_blur(x: Float[Tensor, "b c h w"], dilation: int) -> Float[Tensor, "b c h w"]:
    """Blur by one level: the 3x3 binomial kernel, dilated, borders replicated (wavelet_color_fix.py:79-93)."""
    row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    padded = F.pad(x, (dilation,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, dilation=dilation, groups=x.shape[1])
