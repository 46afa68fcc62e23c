"""The numbers of both orders and the laws of their draws, against the official code's (make_paired_data.py:38-96)."""

import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from seesr_pl.degradation import RealESRGANDegradation, Stage
from seesr_pl.keyed import numpy_generator

KINDS = {"iso": 0.45, "aniso": 0.25, "generalized_iso": 0.12, "generalized_aniso": 0.03}
KINDS |= {"plateau_iso": 0.12, "plateau_aniso": 0.03}
SHARED = {
    "kernel_probabilities": KINDS,
    "kernel_sizes": (7, 9, 11, 13, 15, 17, 19, 21),
    "generalized_beta": (0.5, 4.0),
    "plateau_beta": (1.0, 2.0),
    "sinc_probability": 0.1,
    "gaussian_noise_probability": 0.5,
    "gray_noise_probability": 0.4,
    "jpeg_range": (30.0, 95.0),
}
FIRST = SHARED | {
    "blur_probability": 1.0,
    "blur_sigma": (0.2, 3.0),
    "resize_probabilities": {"up": 0.2, "down": 0.7, "keep": 0.1},
    "resize_range": (0.15, 1.5),
    "noise_range": (1.0, 30.0),
    "poisson_scale_range": (0.05, 3.0),
}
SECOND = SHARED | {
    "blur_probability": 0.8,
    "blur_sigma": (0.2, 1.5),
    "resize_probabilities": {"up": 0.3, "down": 0.4, "keep": 0.3},
    "resize_range": (0.3, 1.2),
    "noise_range": (1.0, 25.0),
    "poisson_scale_range": (0.05, 2.5),
}


def draws(number: int = 3000, **changes) -> list:
    stage = Stage(**changes)
    return [stage.sample(numpy_generator("stage", index)) for index in range(number)]


def kernels(**changes) -> list:
    return [params.kernel for params in draws(**changes)]


def near(probability: float, number: int):
    """Within four deviations of a share among `number`."""
    return pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / number))


def test_the_numbers_of_both_orders_are_the_official_ones():
    degradation = RealESRGANDegradation()
    assert asdict(degradation.first) == FIRST
    assert asdict(degradation.second) == SECOND
    assert (degradation.final_sinc_probability, degradation.sharpen) == (0.8, True)
    assert degradation.chroma_upsampling == "nearest"


def test_each_kind_of_kernel_comes_as_often_as_its_weight():
    found = Counter(kernel.kind for kernel in kernels(sinc_probability=0.0))
    assert {kind: found[kind] / 3000 for kind in KINDS} == {kind: near(share, 3000) for kind, share in KINDS.items()}


def test_sinc_filters_of_13_pixels_and_more_cut_from_a_fifth_of_pi_on():
    cutoffs = {size: [] for size in range(7, 22, 2)}
    for kernel in kernels(sinc_probability=1.0):
        cutoffs[kernel.size].append(kernel.cutoff)
    for size, found in cutoffs.items():
        lowest = math.pi / 3 if size < 13 else math.pi / 5
        assert lowest <= min(found) < lowest + 0.05
        assert math.pi - 0.05 < max(found) <= math.pi


def test_closing_filters_cut_from_a_third_of_pi_on_whatever_their_size():
    degradation = RealESRGANDegradation(final_sinc_probability=1.0)
    found = [degradation.sample(0, 0, index).final_kernel.cutoff for index in range(1000)]
    assert math.pi / 3 <= min(found) < math.pi / 3 + 0.05
    assert np.mean(found) == pytest.approx(2 * math.pi / 3, abs=0.08)


def test_an_anisotropic_kernel_has_two_sigmas_and_any_angle():
    found = kernels(sinc_probability=0.0, kernel_probabilities={"aniso": 1.0}, number=1000)
    sigmas = np.array([(kernel.sigma_x, kernel.sigma_y) for kernel in found])
    angles = np.array([kernel.theta for kernel in found])
    assert abs(np.corrcoef(sigmas.T)[0, 1]) < 0.13
    assert sigmas.mean(0) == pytest.approx([1.6, 1.6], abs=0.11)
    assert -math.pi < angles.min() < -3.1 < 3.1 < angles.max() < math.pi
    assert {kernel.beta for kernel in found} == {1.0}


def test_an_isotropic_kernel_has_one_sigma_and_no_angle():
    found = kernels(sinc_probability=0.0, kernel_probabilities={"plateau_iso": 1.0}, number=100)
    assert all(kernel.sigma_x == kernel.sigma_y and kernel.theta == 0 for kernel in found)


@pytest.mark.parametrize(("kind", "low", "high"), [("generalized_iso", 0.5, 4.0), ("plateau_aniso", 1.0, 2.0)])
def test_half_of_the_shape_exponents_lie_below_one(kind, low, high):
    # For a plateau that side has no width, so half of its exponents are 1 exactly.
    found = np.array([k.beta for k in kernels(sinc_probability=0.0, kernel_probabilities={kind: 1.0}, number=2000)])
    assert (found <= 1).mean() == near(0.5, 2000)
    assert found[found > 1].mean() == pytest.approx((1 + high) / 2, abs=0.1)
    assert found[found <= 1].mean() == pytest.approx((1 + low) / 2, abs=0.02)


def test_scales_are_uniform_above_one_below_it_or_one():
    found = np.array([params.scale for params in draws()])
    assert (found > 1).mean() == near(0.2, 3000)
    assert (found < 1).mean() == near(0.7, 3000)
    assert found[found > 1].mean() == pytest.approx(1.25, abs=0.03)
    assert found[found < 1].mean() == pytest.approx(0.575, abs=0.025)


def test_the_strength_of_noise_is_uniform_in_the_range_of_its_kind():
    for kind, low, high in (("gaussian", 1, 30), ("poisson", 0.05, 3)):
        found = [params.noise_strength for params in draws() if params.noise == kind]
        assert low <= min(found)
        assert max(found) <= high
        assert np.mean(found) == pytest.approx((low + high) / 2, rel=0.05)


def test_noise_begins_anywhere_in_its_bank():
    found = [params.noise_offset for params in draws(number=1000)]
    assert len(set(found)) > 990
    assert np.mean(found) == pytest.approx(1 << 21, rel=0.08)


def test_jpeg_quality_is_rounded_to_the_nearest_integer():
    found = [params.jpeg_quality for params in draws(jpeg_range=(94.0, 95.0), number=400)]
    assert np.mean([quality == 95 for quality in found]) == near(0.5, 400)
