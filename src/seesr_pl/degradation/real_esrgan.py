"""Degradations of one sample: the two-order Real-ESRGAN chain of SeeSR's training pairs, and plain downscaling."""

import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image as PillowImage

from seesr_pl import keyed
from seesr_pl.annotations import Fraction
from seesr_pl.degradation.codec import ChromaUpsampling, Image, Pixels, jpeg, reuse_freed_memory, to_image, to_pixels
from seesr_pl.degradation.filters import blur, resize, usm_sharpen
from seesr_pl.degradation.kernels import Kernel
from seesr_pl.degradation.noise import add_gaussian_noise, add_poisson_noise
from seesr_pl.degradation.stage import (
    KERNEL_SIZES,
    DegradationParams,
    Stage,
    StageParams,
    check_probability,
    sample_resize_mode,
)

FIRST = Stage()
SECOND = Stage(
    blur_probability=0.8,
    blur_sigma=(0.2, 1.5),
    resize_probabilities={"up": 0.3, "down": 0.4, "keep": 0.3},
    resize_range=(0.3, 1.2),
    noise_range=(1.0, 25.0),
    poisson_scale_range=(0.05, 2.5),
)
SCALE, SCALES = 4, (1, 2, 4)
MIN_SIDE = 32


class RealESRGANDegradation:
    """Blur, resize, noise and JPEG, twice; the defaults build the official pairs (make_paired_data.py:38-246).

    `scale`: how many times smaller a side of lq is; at 1 lq is as large as hq.

    All parameters are drawn per sample; the official code draws resize, kind of noise, second blur and the order of the
    last steps once per batch. `sharpen`: unsharp-mask the high-quality image first, and return it sharpened.
    `final_sinc_probability`: of a sinc filter at the end. `chroma_upsampling`: see `codec.jpeg`.

    Raises ValueError where an argument is out of range.
    """

    scale: int = SCALE

    def __init__(
        self,
        first: Stage = FIRST,
        second: Stage = SECOND,
        *,
        final_sinc_probability: Fraction = 0.8,
        sharpen: bool = True,
        chroma_upsampling: ChromaUpsampling = "nearest",
        scale: int = SCALE,
    ) -> None:
        self.scale = checked_scale(scale)
        check_probability("final_sinc_probability", final_sinc_probability)
        if chroma_upsampling not in ("nearest", "fancy"):
            raise ValueError(f"chroma_upsampling={chroma_upsampling!r} must be 'nearest' or 'fancy'")
        self.first = first
        self.second = second
        self.final_sinc_probability = final_sinc_probability
        self.sharpen = sharpen
        self.chroma_upsampling: ChromaUpsampling = chroma_upsampling

    def sample(self, seed: int, epoch: int, index: int) -> DegradationParams:
        """Draw the parameters of sample `index` in `epoch`; they depend on these three numbers and the ranges alone."""
        generator = keyed.numpy_generator(seed, epoch, index, "degradation")
        return DegradationParams(
            first=self.first.sample(generator),
            second=self.second.sample(generator),
            final_kernel=self._final_kernel(generator),
            final_resize_mode=sample_resize_mode(generator),
            jpeg_last=generator.random() < 0.5,
        )

    def apply(self, hq: Pixels, params: DegradationParams) -> tuple[Pixels, Pixels]:
        """Return (hq, lq), uint8 RGB: hq (h, w, 3), sharpened if `sharpen`, and lq (h / scale, w / scale, 3).

        Raises ValueError unless `hq` is uint8 RGB and both sides are at least 32 and divisible by the scale.
        """
        check_pixels(hq, self.scale)
        reuse_freed_memory()
        image = to_image(hq)
        if self.sharpen:
            image = usm_sharpen(image)
            hq = to_pixels(image)
        height, width = hq.shape[0] // self.scale, hq.shape[1] // self.scale
        first, second = params.first, params.second
        image = _blur_resize_noise(image, first, int(hq.shape[0] * first.scale), int(hq.shape[1] * first.scale))
        image = self._jpeg(image, first.jpeg_quality)
        image = _blur_resize_noise(image, second, int(height * second.scale), int(width * second.scale))
        if not params.jpeg_last:
            image = self._jpeg(image, second.jpeg_quality)
        image = resize(image, height, width, mode=params.final_resize_mode)
        if params.final_kernel:
            image = blur(image, params.final_kernel)
        if params.jpeg_last:
            image = self._jpeg(image, second.jpeg_quality)
        return hq, to_pixels(image)

    def _final_kernel(self, generator: np.random.Generator) -> Kernel | None:
        size = KERNEL_SIZES[int(generator.integers(len(KERNEL_SIZES)))]
        cutoff = math.pi / 3 + 2 * math.pi / 3 * generator.random()
        return Kernel("sinc", size, cutoff=cutoff) if generator.random() < self.final_sinc_probability else None

    def _jpeg(self, image: Image, quality: int) -> Image:
        return to_image(jpeg(to_pixels(image), quality, chroma_upsampling=self.chroma_upsampling))


class FixedParams(NamedTuple):
    """The parameters of a degradation that draws nothing."""

    severity: float = 0.0
    kind: str = "downscaling"


class BicubicDegradation:
    """Downscale with antialiased bicubic, the field's classical setting (MATLAB's imresize, within one level)."""

    scale: int = SCALE

    def __init__(self, *, scale: int = SCALE) -> None:
        self.scale = checked_scale(scale)

    def sample(self, seed: int, epoch: int, index: int) -> FixedParams:
        """Return the same parameters for every sample."""
        return FixedParams()

    def apply(self, hq: Pixels, params: FixedParams) -> tuple[Pixels, Pixels]:
        """Return (hq, lq), uint8 RGB: hq as given, lq (h / scale, w / scale, 3); ValueError as in the chain."""
        size = _downscaled_size(hq, self.scale)
        return hq, np.asarray(PillowImage.fromarray(hq).resize(size, PillowImage.Resampling.BICUBIC))


class NoDegradation:
    """Only reduce the resolution: each low-quality pixel is the mean of scale x scale high-quality pixels."""

    scale: int = SCALE

    def __init__(self, *, scale: int = SCALE) -> None:
        self.scale = checked_scale(scale)

    def sample(self, seed: int, epoch: int, index: int) -> FixedParams:
        """Return the same parameters for every sample."""
        return FixedParams()

    def apply(self, hq: Pixels, params: FixedParams) -> tuple[Pixels, Pixels]:
        """Return (hq, lq), uint8 RGB: hq as given, lq (h / scale, w / scale, 3); ValueError as in the chain."""
        return hq, cv2.resize(hq, _downscaled_size(hq, self.scale), interpolation=cv2.INTER_AREA)


def checked_scale(scale: int) -> int:
    """Return `scale`; raise ValueError unless it is 1, 2 or 4."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale} must be one of {', '.join(map(str, SCALES))}")
    return scale


def check_pixels(hq: Pixels, scale: int) -> None:
    """Raise ValueError unless `hq` is uint8 RGB (h, w, 3) with sides of at least 32 that are divisible by `scale`."""
    if hq.dtype != np.uint8 or hq.ndim != 3 or hq.shape[2] != 3:
        raise ValueError(f"hq is {hq.dtype} {hq.shape}; it must be uint8 RGB (h, w, 3)")
    if min(hq.shape[:2]) < MIN_SIDE or hq.shape[0] % scale or hq.shape[1] % scale:
        raise ValueError(
            f"hq is {hq.shape[1]}x{hq.shape[0]}; sides must be at least {MIN_SIDE} and divisible by {scale}"
        )


def _downscaled_size(hq: Pixels, scale: int) -> tuple[int, int]:
    """Return (width, height) of the low-quality image; ValueError as of `check_pixels`."""
    check_pixels(hq, scale)
    return hq.shape[1] // scale, hq.shape[0] // scale


def _blur_resize_noise(image: Image, stage: StageParams, height: int, width: int) -> Image:
    if stage.kernel:
        image = blur(image, stage.kernel)
    image = resize(image, max(height, 1), max(width, 1), mode=stage.resize_mode)
    add_noise = add_gaussian_noise if stage.noise == "gaussian" else add_poisson_noise
    return add_noise(image, stage.noise_strength, gray=stage.gray_noise, offset=stage.noise_offset)
