"""Blur kernels against the official ones."""

import random

import numpy as np
import pytest

from seesr_pl.degradation.kernels import MIXED_KINDS, Kernel, gaussian_profile

GOLDEN = {
    "iso": Kernel("iso", 21, 2.0, 2.0, 0.0, 1.0),
    "aniso": Kernel("aniso", 15, 2.5, 0.8, 0.6, 1.0),
    "gen_iso": Kernel("generalized_iso", 11, 1.7, 1.7, 0.0, 0.7),
    "gen_aniso": Kernel("generalized_aniso", 21, 2.5, 0.8, -1.1, 2.5),
    "plateau_iso": Kernel("plateau_iso", 9, 1.3, 1.3, 0.0, 1.4),
    "plateau_aniso": Kernel("plateau_aniso", 21, 2.9, 0.5, 2.0, 1.9),
    "sinc_15": Kernel("sinc", 15, cutoff=np.pi / 3),
    "sinc_9_pad21": Kernel("sinc", 9, cutoff=2.0),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_kernel_equals_the_official_one(operators, name):
    matrix = GOLDEN[name].matrix()
    expected = operators[f"kernel/{name}_f64"]
    matrix = np.pad(matrix, (len(expected) - len(matrix)) // 2)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_kernel_of_the_official_draw_equals_the_official_kernel(operators, seed):
    size = 7 + 2 * seed
    expected = operators[f"random_mixed_kernels/seed{seed}_size{size}_f64"]
    kernel = _official_draw(seed, size)
    np.testing.assert_allclose(kernel.matrix(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", GOLDEN.values(), ids=str)
def test_kernel_sums_to_one_and_is_symmetric_about_its_centre(kernel):
    matrix = kernel.matrix()
    assert matrix.sum() == pytest.approx(1)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-15)


def test_isotropic_kernel_is_the_outer_square_of_its_profile():
    profile = gaussian_profile(13, 1.7)
    np.testing.assert_allclose(np.outer(profile, profile), Kernel("iso", 13, 1.7, 1.7, 0.0, 1.0).matrix(), atol=1e-15)


def _official_draw(seed: int, size: int) -> Kernel:
    """The parameters in the order in which random_mixed_kernels draws them (basicsr/data/degradations.py)."""
    kind = random.Random(seed).choices(MIXED_KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03))[0]
    generator = np.random.RandomState(seed)
    sigma_x = sigma_y = generator.uniform(0.2, 3)
    theta, beta = 0.0, 1.0
    if kind.endswith("aniso"):
        sigma_y, theta = generator.uniform(0.2, 3), generator.uniform(-np.pi, np.pi)
    if kind not in ("iso", "aniso"):
        low, high = (1, 2) if kind.startswith("plateau") else (0.5, 4)
        beta = generator.uniform(low, 1) if generator.uniform() < 0.5 else generator.uniform(1, high)
    return Kernel(kind, size, sigma_x, sigma_y, theta, beta)
