"""Blur and unsharp masking against the official code and the definition, resizing against torch's interpolation."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from seesr_pl.degradation.codec import to_image
from seesr_pl.degradation.filters import RESIZE_MODES, blur, filter2d, resize, usm_sharpen
from seesr_pl.degradation.kernels import Kernel


@pytest.mark.parametrize("index", [0, 1])
def test_filter_equals_the_official_one(operators, index):
    image = _channels_last(operators["img"][index])
    filtered = filter2d(image, operators["filter2D/kernels"][index].astype(np.float64))
    np.testing.assert_allclose(filtered, _channels_last(operators["filter2D/batched"][index]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("index", [0, 1])
def test_sharpening_equals_the_official_one(operators, index):
    sharpened = usm_sharpen(_channels_last(operators["img"][index]))
    np.testing.assert_allclose(sharpened, _channels_last(operators["usm"][index]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [7, 11, 13, 21])
@pytest.mark.parametrize("shape", [(9, 12), (64, 72), (201, 333)])
def test_filter_equals_a_direct_sum_over_the_window(shape, size):
    generator = np.random.default_rng(0)
    image = generator.random((*shape, 3), dtype=np.float32)
    kernel = generator.random((size, size))
    expected = cv2.filter2D(image.astype(np.float64), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(filter2d(image, kernel / kernel.sum()), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_separable_blur_equals_the_blur_by_the_whole_kernel(sigma):
    image = np.random.default_rng(0).random((64, 72, 3), dtype=np.float32)
    kernel = Kernel("iso", 21, sigma, sigma, 0.0, 1.0)
    np.testing.assert_allclose(blur(image, kernel), filter2d(image, kernel.matrix()), rtol=0, atol=2e-6)


def test_sharpened_photograph_is_the_official_target(noise_and_jpeg, photograph):
    expected = _channels_last(noise_and_jpeg["chain/usm_gt_crop_200_264"][0])
    sharpened = usm_sharpen(to_image(photograph))[200:264, 200:264]
    np.testing.assert_allclose(sharpened, expected, rtol=0, atol=1e-5)


def test_sharpening_leaves_a_flat_image_alone():
    image = np.full((64, 64, 3), 0.3, np.float32)
    np.testing.assert_allclose(usm_sharpen(image), image, atol=1e-6)


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(64, 72), (31, 20), (96, 101), (64, 13), (5, 200)])
def test_resize_equals_torch_interpolation(mode, size):
    image = np.random.default_rng(0).random((64, 72, 3), dtype=np.float32)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = interpolate(batch, size=size, mode=mode, **({} if mode == "area" else {"align_corners": False}))
    np.testing.assert_allclose(resize(image, *size, mode=mode), expected[0].permute(1, 2, 0), rtol=0, atol=3e-5)


def _channels_last(image):
    return np.ascontiguousarray(image.transpose(1, 2, 0))
