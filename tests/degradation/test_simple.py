"""Plain downscaling."""

import numpy as np
import pytest

from seesr_pl.degradation import BicubicDegradation, NoDegradation


@pytest.mark.parametrize("degradation", [BicubicDegradation(), NoDegradation()], ids=lambda item: type(item).__name__)
def test_plain_downscaling_returns_the_target_and_a_quarter_of_it(photograph, degradation):
    params = degradation.sample(0, 0, 0)
    hq, lq = degradation.apply(photograph, params)
    assert hq is photograph
    assert (lq.shape, lq.dtype) == ((128, 128, 3), np.uint8)
    assert params.severity == 0
    assert params == degradation.sample(1, 2, 3)


def test_no_degradation_is_the_mean_of_4x4_pixels(photograph):
    degradation = NoDegradation()
    lq = degradation.apply(photograph, degradation.sample(0, 0, 0))[1]
    mean = photograph.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(lq - mean).max() <= 0.5


def test_bicubic_keeps_a_flat_image_and_is_sharper_than_the_mean(photograph):
    degradation = BicubicDegradation()
    flat = np.full((64, 64, 3), 77, np.uint8)
    assert (degradation.apply(flat, degradation.sample(0, 0, 0))[1] == 77).all()
    bicubic, mean = (way.apply(photograph, way.sample(0, 0, 0))[1] for way in (degradation, NoDegradation()))
    assert np.abs(np.diff(bicubic.astype(int), axis=0)).mean() > np.abs(np.diff(mean.astype(int), axis=0)).mean()
