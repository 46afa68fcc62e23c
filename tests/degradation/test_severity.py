"""How severity counts each part of a degradation, in closed form."""

import math

import pytest

from seesr_pl.degradation import DegradationParams, Kernel, StageParams

# Nothing is lost: the second order keeps the low-quality size, the first gives four of its pixels for each.
NOTHING = StageParams(None, 1.0, "bilinear", "gaussian", 0.0, False, 0, 100)
WIDE = Kernel("iso", 21, 2.0, 2.0, 0.0, 1.0)


def severity(first: dict | None = None, second: dict | None = None) -> float:
    stages = [NOTHING._replace(**(changes or {})) for changes in (first, second)]
    return DegradationParams(*stages, None, "area", True).severity


def test_no_degradation_has_no_severity():
    assert severity() == 0.0


@pytest.mark.parametrize(
    ("first", "second", "raised"),
    [
        ({}, {"noise_strength": 25.5}, 150 * 0.01),
        ({}, {"noise": "poisson", "noise_strength": 1.0}, 150 * 0.5 / 256),
        ({"noise_strength": 25.5}, {}, 150 * 0.5 * 0.01),
        # An area resize averages 4 x 4 pixels of the first order, and a blur about 1 + 2 * 4 of them.
        ({"noise_strength": 25.5}, {"resize_mode": "area"}, 150 * 0.5 * 0.01 / 16),
        ({"noise_strength": 25.5}, {"kernel": WIDE}, 150 * 0.5 * 0.01 / 9 + 0.5 * 4 / 16),
        ({"kernel": WIDE}, {}, 0.5 * 4 / 16),
        # A sinc that cuts at a third of pi is as wide as a sigma of 3 - 1.
        ({"kernel": Kernel("sinc", 21, cutoff=math.pi / 3)}, {}, 0.5 * 4 / 16),
        ({"scale": 0.125}, {}, 1.0),
        ({}, {"scale": 0.5}, 1.0),
        ({"jpeg_quality": 40}, {}, 0.5 * 0.6 / 4),
        ({}, {"jpeg_quality": 40}, 0.5 * 0.6),
    ],
)
def test_severity_is_the_logarithm_of_the_error_that_each_part_adds(first, second, raised):
    assert severity(first, second) == pytest.approx(math.log10(1 + raised))


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ({}, {"noise_strength": 25.5, "jpeg_quality": 40}, "noise"),
        ({"kernel": WIDE}, {"noise_strength": 1.0}, "blur"),
        ({"kernel": WIDE}, {"scale": 0.5}, "resolution"),
        ({}, {"jpeg_quality": 40, "noise_strength": 5.0}, "compression"),
    ],
)
def test_the_kind_is_the_part_that_adds_most(first, second, kind):
    stages = [NOTHING._replace(**changes) for changes in (first, second)]
    assert DegradationParams(*stages, None, "area", True).kind == kind


def test_severity_ends_at_one():
    assert severity({}, {"noise_strength": 255.0}) == 1.0
