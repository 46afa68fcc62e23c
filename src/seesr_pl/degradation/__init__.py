"""Low-quality images from high-quality ones: the Real-ESRGAN chain of the official pairs, and plain downscaling."""

from seesr_pl.degradation.kernels import Kernel
from seesr_pl.degradation.noise import build_banks
from seesr_pl.degradation.real_esrgan import BicubicDegradation, FixedParams, NoDegradation, RealESRGANDegradation
from seesr_pl.degradation.record import degrade_again, recorded
from seesr_pl.degradation.stage import DegradationParams, Stage, StageParams

__all__ = [
    "BicubicDegradation",
    "DegradationParams",
    "FixedParams",
    "Kernel",
    "NoDegradation",
    "RealESRGANDegradation",
    "Stage",
    "StageParams",
    "build_banks",
    "degrade_again",
    "recorded",
]
