"""Each setting of the pipeline's call reaches the networks, on stock parts."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from stacks import Listener, small_stack

from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.settings import settings

BASE = {
    "num_inference_steps": 2,
    "guidance_scale": 3.0,
    "process_size": 64,
    "tile": 8,
    "overlap": 4,
    "tags": ["wood"],
}
CHANGES = {
    "prompt": "old stone wall",
    "upscale": 2,
    "num_inference_steps": 3,
    "guidance_scale": 5.5,
    "conditioning_scale": 0.5,
    "start_from": "noise",
    "color_fix": "wavelet",
    "tile": 7,
    "overlap": 6,
    "generator": torch.Generator().manual_seed(1),
    "tags": ["grass, sky"],
    "added_prompt": "clean",
    "negative_prompt": "blur",
    "recipe": "official",
    "process_size": 72,
    "vae_tile": 64,
    "scheduler": "ddim",
    "guidance_fraction": 0.5,
}
HOW = {"batch_size", "guidance_in_one_batch", "tile_batch_size", "cache", "callback_on_step_end"}
"""Settings of how the work is done, not of what comes out."""


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def lq():
    levels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((17, 12), Image.Resampling.BICUBIC)


def restored(pipeline, **changes):
    arguments = BASE | {"generator": torch.Generator().manual_seed(0)} | changes
    return np.asarray(pipeline(lq(), **arguments).images[0])


@pytest.fixture(scope="module")
def base(pipeline):
    return restored(pipeline)


def test_every_setting_is_tried_below():
    arguments = inspect.signature(SeeSRPipeline.__call__).parameters.keys() - {"self", "image", "sampling", "changes"}
    assert arguments | {setting.name for setting in settings()} == CHANGES.keys() | HOW


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_the_image(pipeline, base, name):
    torch.manual_seed(0)  # the official recipe draws from it
    changed = restored(pipeline, **{name: CHANGES[name]})
    assert changed.shape != base.shape or (changed != base).mean() > 0.01


def test_equal_settings_give_equal_images(pipeline, base):
    np.testing.assert_array_equal(restored(pipeline), base)


@pytest.mark.parametrize(
    "how", [{"guidance_in_one_batch": False}, {"tile_batch_size": 1}, {"cache": False}, {"batch_size": 3}], ids=str
)
def test_how_the_work_is_done_changes_no_more_than_a_level(pipeline, base, how):
    assert np.abs(restored(pipeline, **how).astype(int) - base).max() <= 1


def test_negative_and_positive_texts_are_told_in_the_official_order_and_form(pipeline):
    listener = Listener(pipeline.text_encoder, pipeline.tokenizer)
    restored(pipeline, prompt="old stone wall", added_prompt="clean", negative_prompt="blur")
    restored(pipeline, guidance_scale=1.0)
    guided, unguided = listener.texts
    assert guided == listener.spelt(["blur", "wood, old stone wall,clean"])
    assert unguided == listener.spelt(["wood, ,clean, high-resolution, 8k"])


def test_without_tags_of_the_user_those_of_ram_are_told(pipeline):
    listener = Listener(pipeline.text_encoder, pipeline.tokenizer)
    output = pipeline(lq(), **BASE | {"tags": None, "guidance_scale": 1.0})
    assert output.tags[0]
    assert listener.texts == [listener.spelt([f"{output.tags[0]}, ,clean, high-resolution, 8k"])]


def test_a_scheduler_by_name_steps_with_the_noise_schedule_of_the_pipelines_own(pipeline):
    seen = []

    def record(pipe, index, timestep, values):
        seen.append(int(timestep))
        return values

    for scheduler in ("own", "ddpm", "ddim", "unipc", "dpmpp"):
        restored(pipeline, scheduler=scheduler, guidance_scale=1, callback_on_step_end=record)
    own, ddpm, ddim, unipc, dpmpp = (seen[start : start + 2] for start in range(0, 10, 2))
    assert own == ddpm == ddim == [501, 1]
    assert unipc == dpmpp
    assert unipc[0] == 999
    assert pipeline.scheduler.timesteps.shape == (1000,)  # its own one was never set to a number of steps


def test_the_tile_of_the_vae_bounds_what_it_encodes_and_what_it_decodes(pipeline):
    sides = []
    for part, factor in ((pipeline.vae.encoder, 1), (pipeline.vae.decoder, 8)):
        part.register_forward_pre_hook(lambda module, inputs, f=factor: sides.append(f * max(inputs[0].shape[-2:])))
    restored(pipeline, num_inference_steps=1, vae_tile=64)
    assert len(sides) > 2
    assert max(sides) == 64
