"""The two forms of an image and the way between them; JPEG against the official one and against a real codec."""

import io

import numpy as np
import pytest
from PIL import Image

from seesr_pl.degradation.codec import jpeg, to_image, to_pixels


@pytest.mark.parametrize(("quality", "min_psnr"), [(30.0, 31), (60.5, 34), (95.0, 40)])
@pytest.mark.parametrize("index", [0, 1])
def test_real_codec_is_near_the_official_differentiable_one(noise_and_jpeg, quality, min_psnr, index):
    image, expected = (noise_and_jpeg[name][index].transpose(1, 2, 0).copy() for name in ("img", f"jpeg/q{quality}"))
    ours = to_image(jpeg(to_pixels(image), round(quality)))
    assert -10 * np.log10(np.mean((ours - expected) ** 2)) > min_psnr


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_fancy_upsampling_equals_what_pillow_writes_and_reads(photograph, quality):
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "JPEG", quality=quality)
    np.testing.assert_array_equal(jpeg(photograph, quality, chroma_upsampling="fancy"), Image.open(buffer))


def test_nearest_upsampling_keeps_luma_and_repeats_chroma(photograph):
    nearest, fancy = (jpeg(photograph, 50, chroma_upsampling=way).astype(float) for way in ("nearest", "fancy"))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs((nearest - fancy) @ luma).mean() < 1
    difference = (nearest[..., 2] - nearest @ luma)[:, :, None].reshape(256, 2, 256, 2)
    assert np.median(np.ptp(difference, axis=(1, 3))) <= 2


def test_levels_are_the_nearest_and_what_lies_outside_is_clipped():
    image = np.array([[[-0.1, 0.4 / 255, 0.6 / 255], [99.4 / 255, 99.6 / 255, 1.1]]], np.float32)
    assert to_pixels(image).ravel().tolist() == [0, 0, 1, 99, 100, 255]


def test_every_level_survives_the_way_to_floats_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert to_image(levels).dtype == np.float32
    assert to_image(levels).max() == 1.0
    np.testing.assert_array_equal(to_pixels(to_image(levels)), levels)
