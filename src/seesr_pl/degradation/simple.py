"""Degradations without chance: plain downscaling, with the same two methods as the Real-ESRGAN chain."""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from seesr_pl.degradation.arrays import Pixels
from seesr_pl.degradation.real_esrgan import SCALE, check_pixels


class FixedParams(NamedTuple):
    """The parameters of a degradation that draws nothing."""

    severity: float = 0.0


class BicubicDegradation:
    """Antialiased bicubic downscaling by 4, the field's classical setting (as MATLAB's imresize, to a level)."""

    def sample(self, seed: int, epoch: int, index: int) -> FixedParams:
        """The same for every sample."""
        return FixedParams()

    def apply(self, hq: Pixels, params: FixedParams) -> tuple[Pixels, Pixels]:
        """(hq, lq), uint8 RGB; hq as given, lq (h / 4, w / 4, 3)."""
        check_pixels(hq)
        size = (hq.shape[1] // SCALE, hq.shape[0] // SCALE)
        return hq, np.asarray(Image.fromarray(hq).resize(size, Image.Resampling.BICUBIC))


class NoDegradation:
    """Nothing but the loss of resolution: each low-quality pixel is the mean of 4x4 high-quality ones."""

    def sample(self, seed: int, epoch: int, index: int) -> FixedParams:
        """The same for every sample."""
        return FixedParams()

    def apply(self, hq: Pixels, params: FixedParams) -> tuple[Pixels, Pixels]:
        """(hq, lq), uint8 RGB; hq as given, lq (h / 4, w / 4, 3)."""
        check_pixels(hq)
        size = (hq.shape[1] // SCALE, hq.shape[0] // SCALE)
        return hq, cv2.resize(hq, size, interpolation=cv2.INTER_AREA)
