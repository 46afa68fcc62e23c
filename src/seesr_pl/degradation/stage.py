"""One order of the degradation chain: its ranges, the parameters drawn from them, and how severe these are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from seesr_pl.degradation.filters import RESIZE_MODES, ResizeMode
from seesr_pl.degradation.kernels import MIXED_KINDS, Kernel
from seesr_pl.degradation.noise import MAX_OFFSET

KERNEL_SIZES = tuple(range(7, 22, 2))
# Standard deviation, in levels of 255, of Poisson noise at half of full white with 256 photons.
POISSON_SIGMA = 255 * math.sqrt(0.5 / 256)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Ranges and probabilities of one order; the defaults are the official first one (make_paired_data.py:38-96).

    blur_probability: of blurring the image at all.
    kernel_probabilities: weight of each kind of kernel where no sinc is drawn.
    kernel_sizes: the odd sizes to draw from, in pixels.
    blur_sigma: range of both sigmas in pixels; generalized_beta, plateau_beta: ranges of the shape exponents.
    sinc_probability: of a sinc filter in place of the other kinds.
    resize_probabilities: weights of enlarging, shrinking and keeping the size; resize_range: limits of the scale.
    gaussian_noise_probability: of Gaussian noise; otherwise the noise is Poisson.
    noise_range: range of the Gaussian sigma (of 255); poisson_scale_range: of the factor on the Poisson noise.
    gray_noise_probability: of the same noise in all channels.
    jpeg_range: range of the JPEG quality, 1 to 100.

    Raises ValueError where a value is out of range.
    """

    blur_probability: float = 1.0
    kernel_probabilities: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(MIXED_KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), strict=True))
    )
    kernel_sizes: Sequence[int] = KERNEL_SIZES
    blur_sigma: Sequence[float] = (0.2, 3.0)
    generalized_beta: Sequence[float] = (0.5, 4.0)
    plateau_beta: Sequence[float] = (1.0, 2.0)
    sinc_probability: float = 0.1
    resize_probabilities: Mapping[str, float] = field(default_factory=lambda: {"up": 0.2, "down": 0.7, "keep": 0.1})
    resize_range: Sequence[float] = (0.15, 1.5)
    gaussian_noise_probability: float = 0.5
    noise_range: Sequence[float] = (1.0, 30.0)
    poisson_scale_range: Sequence[float] = (0.05, 3.0)
    gray_noise_probability: float = 0.4
    jpeg_range: Sequence[float] = (30.0, 95.0)

    def __post_init__(self) -> None:
        for name in ("blur_probability", "sinc_probability", "gaussian_noise_probability", "gray_noise_probability"):
            check_probability(name, getattr(self, name))
        limits = {"blur_sigma": (0.01, 50), "generalized_beta": (0.01, 50), "plateau_beta": (0.01, 50)}
        limits |= {"resize_range": (0.05, 4), "noise_range": (0, 255), "poisson_scale_range": (0, 100)}
        for name, (low, high) in (limits | {"jpeg_range": (1, 100)}).items():
            _check_range(name, getattr(self, name), low, high)
        _check_weights("kernel_probabilities", self.kernel_probabilities, MIXED_KINDS)
        _check_weights("resize_probabilities", self.resize_probabilities, ("up", "down", "keep"))
        if any(size % 2 == 0 or size < 3 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes={list(self.kernel_sizes)} must be odd numbers from 3 on")

    def sample(self, generator: np.random.Generator) -> "StageParams":
        """Draw the parameters of one sample from `generator`."""
        kernel = self._kernel(generator)
        blurred = generator.random() < self.blur_probability
        gaussian = generator.random() < self.gaussian_noise_probability
        strength = self.noise_range if gaussian else self.poisson_scale_range
        return StageParams(
            kernel=kernel if blurred else None,
            scale=self._scale(generator),
            resize_mode=sample_resize_mode(generator),
            noise="gaussian" if gaussian else "poisson",
            noise_strength=_between(generator, *strength),
            gray_noise=generator.random() < self.gray_noise_probability,
            noise_offset=int(generator.integers(MAX_OFFSET)),
            jpeg_quality=round(_between(generator, *self.jpeg_range)),
        )

    def _kernel(self, generator: np.random.Generator) -> Kernel:
        size = self.kernel_sizes[int(generator.integers(len(self.kernel_sizes)))]
        if generator.random() < self.sinc_probability:
            lowest = math.pi / 3 if size < 13 else math.pi / 5
            return Kernel("sinc", size, cutoff=_between(generator, lowest, math.pi))
        kind = MIXED_KINDS[_choose(generator, [self.kernel_probabilities.get(kind, 0.0) for kind in MIXED_KINDS])]
        sigma_x, sigma_y = (_between(generator, *self.blur_sigma) for _ in range(2))
        theta = _between(generator, -math.pi, math.pi)
        beta = self._beta(generator, kind)
        if kind.endswith("aniso"):
            return Kernel(kind, size, sigma_x, sigma_y, theta, beta)
        return Kernel(kind, size, sigma_x, sigma_x, 0.0, beta)

    def _beta(self, generator: np.random.Generator, kind: str) -> float:
        if kind in ("iso", "aniso"):
            return 1.0
        # Half of the draws lie below 1, however short that side is (basicsr/data/degradations.py:261-264, 317-320).
        low, high = self.plateau_beta if kind.startswith("plateau") else self.generalized_beta
        return _between(generator, low, 1.0) if generator.random() < 0.5 else _between(generator, 1.0, high)

    def _scale(self, generator: np.random.Generator) -> float:
        low, high = self.resize_range
        direction = _choose(generator, [self.resize_probabilities.get(name, 0.0) for name in ("up", "down", "keep")])
        return (_between(generator, 1.0, high), _between(generator, low, 1.0), 1.0)[direction]


class StageParams(NamedTuple):
    """Parameters of one order for one sample: blur, resize, noise, JPEG.

    `kernel`: None skips the blur. `scale` is relative to the high-quality size in the first order and to the
    low-quality size in the second. `noise_strength` is the Gaussian sigma (of 255), or the factor on Poisson noise.
    `noise_offset` is the start of the slice of the noise bank. `jpeg_quality` is in 1 to 100.
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
    """What `RealESRGANDegradation.sample` draws and `apply` replays; plain scalars, comparable, picklable.

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
        """How bad the low-quality image will look, in [0, 1]: an estimate from the parameters alone.

        It is a tenth of the decibels by which noise, blur, lost resolution and compression raise the error above that
        of downscaling alone. Within one image its rank correlation with PSNR is about -0.75; it cannot know how much
        detail an image has to lose.
        """
        return min(math.log10(sum(self._errors().values(), start=1.0)), 1.0)

    @property
    def kind(self) -> str:
        """What raises that error most: noise, blur, resolution (lost before the final size) or compression."""
        errors = self._errors()
        return max(errors, key=errors.__getitem__)

    def _errors(self) -> dict[str, float]:
        """Estimate what each kind adds to the squared error, in units of that of downscaling alone."""
        first, second = self.first, self.second
        density = 4 * first.scale  # pixels of the first order to one of the low-quality image, along a side
        averaged = max(density / second.scale, 1.0) if second.resize_mode == "area" else 1.0
        reach = 1 / (averaged**2 * (1 + 2 * second.blur_power))
        return {
            "noise": 150 * (second.noise_power + 0.5 * reach * first.noise_power),
            "blur": 0.5 * (first.blur_power / 16 + second.blur_power / density**2),
            "resolution": max(1 / density - 1, 0) + max(1 / second.scale - 1, 0),
            "compression": 0.5 * ((1 - first.jpeg_quality / 100) / density + (1 - second.jpeg_quality / 100)),
        }


def sample_resize_mode(generator: np.random.Generator) -> ResizeMode:
    """Draw one of the three resize modes, with equal probability."""
    return RESIZE_MODES[int(generator.integers(len(RESIZE_MODES)))]


def check_probability(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must lie in [0, 1]")


def _check_range(name: str, values: Sequence[float], low: float, high: float) -> None:
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise ValueError(f"{name}={list(values)} must be two rising numbers in [{low}, {high}]")


def _check_weights(name: str, weights: Mapping[str, float], names: Sequence[str]) -> None:
    if not set(weights) <= set(names) or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"{name}={dict(weights)} must give weights >= 0, not all zero, to some of {', '.join(names)}")


def _between(generator: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * generator.random()


def _choose(generator: np.random.Generator, weights: Sequence[float]) -> int:
    remaining = generator.random() * sum(weights)
    for index, weight in enumerate(weights):
        remaining -= weight
        if remaining < 0:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0)
