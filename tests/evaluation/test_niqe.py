"""NIQE: its parts in closed form, its behaviour, and the value published for a real set."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import stats

from seesr_pl.evaluation.niqe import NIQE, asymmetric_gaussian, halved
from seesr_pl.imaging.io import read_rgb


@pytest.fixture
def niqe() -> NIQE:
    window = cv2.getGaussianKernel(7, 7 / 6)
    return NIQE(np.zeros((1, 36)), np.eye(36), window @ window.T)


@pytest.mark.parametrize(("alpha", "scale"), [(1.0, 0.7), (2.0, 1.5)])
def test_the_fit_recovers_a_generalised_gaussian(alpha, scale):
    values = stats.gennorm(alpha, scale=scale).rvs(200_000, random_state=0)
    assert asymmetric_gaussian(values) == pytest.approx((alpha, scale, scale), rel=0.03)


def test_the_fit_of_a_constant_is_not_a_number():
    assert np.isnan(asymmetric_gaussian(np.zeros((8, 8)))).all()


def test_halving_keeps_a_constant_and_the_middle_of_a_ramp():
    np.testing.assert_allclose(halved(np.full((12, 16), 7.0)), np.full((6, 8), 7.0))
    ramp = np.tile(np.arange(32.0), (12, 1))
    np.testing.assert_allclose(halved(ramp)[:, 4:-4], ramp[:6, 8:-8:2] + 0.5)


def test_what_lies_beyond_the_last_whole_block_does_not_count(niqe, picture):
    image = picture(0, 200)
    changed = image.copy()
    changed[192:], changed[:, 192:] = 0, 255
    assert niqe(image) == niqe(changed)


def test_an_image_under_one_block_is_refused(niqe, picture):
    with pytest.raises(ValueError, match="at least 96 pixels a side, got 64x64"):
        niqe(picture(0))


@pytest.mark.parametrize("content", [None, {"mean": np.zeros(3)}])
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path, content):
    path = tmp_path / "parameters.npz"
    if content is not None:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=r"niqe_parameters=.*niqe_pris_params.npz of BasicSR"):
        NIQE.from_file(path)


@pytest.mark.slow
def test_the_published_mean_of_realsr_is_met(benchmarks):
    path = Path(os.environ.get("SEESR_NIQE_PARAMETERS", benchmarks.parent / "assets" / "niqe_pris_params.npz"))
    if not path.is_file():
        pytest.skip(f"{path} does not exist; set SEESR_NIQE_PARAMETERS to niqe_pris_params.npz")
    niqe = NIQE.from_file(path)
    values = [niqe(read_rgb(image)) for image in sorted((benchmarks / "realsr" / "results_osediff").glob("*.png"))]
    # Printed by the authors of the images: 5.6476. Ties in rounding the luma alone move the mean by 3e-4.
    assert np.mean(values) == pytest.approx(5.6476, abs=5e-4)
