"""The images that a validation restores: their noise, and the scores that are logged."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from seesr_runs import random_batch, small_module

from seesr_pl.evaluation.metrics import psnr_y
from seesr_pl.training.validation import Shown, ValidationImages, restore

SAMPLER = {"num_inference_steps": 2, "guidance_scale": 1.0, "color_fix": "none"}


@pytest.fixture(scope="module")
def module():
    return small_module(tags="none").eval()


def repeated(sample_ids):
    """The images of sample 50 under other ids."""
    return random_batch([50] * len(sample_ids)) | {"sample_id": torch.tensor(sample_ids)}


def test_the_noise_of_a_restored_image_is_that_of_its_sample(module):
    first, second, again = restore(module, repeated([50, 51, 50]), sampler=SAMPLER).images
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_each_validation_logs_the_scores_of_its_own_images(module, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(module, "log_dict", logged.append)
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(forward_context=torch.no_grad),
        strategy=SimpleNamespace(reduce=lambda sums, reduce_op: sums),
        is_global_zero=False,
    )
    callback = ValidationImages(tmp_path, num_images=1, sampler=SAMPLER)
    for number in (50, 51):
        callback.on_validation_batch_end(trainer, module, None, random_batch([number]), 0)
        callback.on_validation_epoch_end(trainer, module)
    for number, scores in zip((50, 51), logged, strict=True):
        batch = random_batch([number])
        images = restore(module, batch, sampler=SAMPLER).images
        assert scores["val/psnr_y"] == pytest.approx(psnr_y(images[0].numpy(), batch["hq"][0].numpy()), rel=1e-5)


@pytest.mark.parametrize("side", [96, 512])
def test_the_panel_of_an_image_shows_its_pixels_and_has_letters_that_can_be_read(side):
    images = tuple(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    panel = Shown("a key", images, [25.0, 0.7, 24.0, 0.6], "sky, water").panel
    factor = -(-256 // side)
    np.testing.assert_array_equal(panel[-8 - factor * side : -8 : factor, 8 : 8 + factor * side : factor], images[0])
    letters = (panel[: -8 - factor * side] < 128).all(axis=2).any(axis=1)
    assert letters.sum() >= side // 18
    assert (panel[:, :8] == 255).all()
