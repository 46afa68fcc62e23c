"""A recorded degradation gives the same LQ image once more, after it was written to a file and read again."""

import json

import cv2
import numpy as np
import pytest

from seesr_pl.degradation import (
    BicubicDegradation,
    NoDegradation,
    RealESRGANDegradation,
    Stage,
    degrade_again,
    recorded,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "degradation",
    [
        RealESRGANDegradation(sharpen=False),
        RealESRGANDegradation(sharpen=False, chroma_upsampling="fancy", scale=2),
        BicubicDegradation(),
        NoDegradation(scale=2),
    ],
)
def test_the_hq_image_of_a_pair_gives_its_lq_image(degradation):
    for index in range(4):
        params = degradation.sample(0, 0, index)
        hq, lq = degradation.apply(IMAGE, params)
        record = json.loads(json.dumps(recorded(degradation, params)))
        np.testing.assert_array_equal(degrade_again(hq, record), lq)


def test_a_sharpened_hq_image_gives_its_lq_image_but_for_a_few_levels():
    chain = RealESRGANDegradation()
    for index in range(4):
        params = chain.sample(0, 0, index)
        hq, lq = chain.apply(cv2.GaussianBlur(IMAGE, (0, 0), 2), params)
        again = degrade_again(hq, recorded(chain, params))
        assert np.abs(again.astype(int) - lq).mean() < 3


def test_a_degradation_of_others_is_not_recorded():
    class Theirs(RealESRGANDegradation):
        pass

    assert recorded(Theirs(Stage(), Stage()), Theirs().sample(0, 0, 0)) is None


@pytest.mark.parametrize("change", [{"chain": "theirs"}, {"params": {}}, {"params": {"first": {}}}, {"scale": 3}])
def test_a_record_of_another_form_is_refused(change):
    chain = RealESRGANDegradation()
    with pytest.raises(ValueError, match=r"recorded degradation|scale=3"):
        degrade_again(IMAGE, {**recorded(chain, chain.sample(0, 0, 0)), **change})
