"""Resizing against torch's interpolation."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from seesr_pl.degradation.resize import RESIZE_MODES, resize


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(64, 72), (31, 20), (96, 101), (64, 13), (5, 200)])
def test_resize_equals_torch_interpolation(mode, size):
    image = np.random.default_rng(0).random((64, 72, 3), dtype=np.float32)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = interpolate(batch, size=size, mode=mode, **({} if mode == "area" else {"align_corners": False}))
    np.testing.assert_allclose(resize(image, *size, mode=mode), expected[0].permute(1, 2, 0), rtol=0, atol=3e-5)
