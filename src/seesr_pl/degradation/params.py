"""What happens to one sample, as plain scalars, and how bad that is."""

import math
from typing import Literal, NamedTuple

from seesr_pl.degradation.kernels import Kernel
from seesr_pl.degradation.resize import ResizeMode

# Shot noise at half of full white with 256 photons deviates by this many levels of 255.
POISSON_SIGMA = 255 * math.sqrt(0.5 / 256)


class StageParams(NamedTuple):
    """One order of the chain: blur, resize, noise, JPEG.

    `kernel` None skips the blur. `scale` is relative to the high-quality size in the first order and to the
    low-quality size in the second. `noise_strength` is sigma of 255, or the scale of Poisson noise.
    """

    kernel: Kernel | None
    scale: float
    resize_mode: ResizeMode
    noise: Literal["gaussian", "poisson"]
    noise_strength: float
    gray_noise: bool
    noise_offset: int
    jpeg_quality: int

    @property
    def noise_power(self) -> float:
        """Variance of the noise in [0, 1], that of Poisson noise at medium gray."""
        sigma = self.noise_strength * (POISSON_SIGMA if self.noise == "poisson" else 1.0)
        return (sigma / 255) ** 2

    @property
    def blur_power(self) -> float:
        """Squared width of the blur in pixels; that of a sinc grows from 0 as its cutoff falls from pi."""
        if self.kernel is None:
            return 0.0
        if self.kernel.kind == "sinc":
            return (math.pi / self.kernel.cutoff - 1) ** 2
        return self.kernel.sigma_x * self.kernel.sigma_y


class DegradationParams(NamedTuple):
    """Everything that `RealESRGANDegradation.apply` needs to know of a sample; plain scalars, comparable.

    `final_kernel` is the closing sinc filter, None where there is none; `jpeg_last` says whether the second JPEG comes
    after the closing resize and filter.
    """

    first: StageParams
    second: StageParams
    final_kernel: Kernel | None
    final_resize_mode: ResizeMode
    jpeg_last: bool

    @property
    def severity(self) -> float:
        """How bad the low-quality image will look, in [0, 1], from the parameters alone: an estimate.

        Tenths of the decibels by which noise, blur, lost resolution and compression raise the error over that of the
        plain loss of resolution. Within one picture it ranks samples as their PSNR does, at a rank correlation of
        about -0.75; it cannot know how much detail a picture has to lose.
        """
        first, second = self.first, self.second
        density = 4 * first.scale  # pixels of the first order to one of the low-quality image, along a side
        averaged = max(density / second.scale, 1.0) if second.resize_mode == "area" else 1.0
        reach = 1 / (averaged**2 * (1 + 2 * second.blur_power))
        noise = 150 * (second.noise_power + 0.5 * reach * first.noise_power)
        blur = 0.5 * (first.blur_power / 16 + second.blur_power / density**2)
        lost = max(1 / density - 1, 0) + max(1 / second.scale - 1, 0)
        compression = 0.5 * ((1 - first.jpeg_quality / 100) / density + (1 - second.jpeg_quality / 100))
        return min(math.log10(1 + noise + blur + lost + compression), 1.0)
