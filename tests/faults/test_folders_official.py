"""The official recipe obeys the seed; an argument of diffusers that is not honoured is refused by its name."""

import numpy as np
import pytest
import torch
from stacks import small_stack

from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.restoring import restore

QUICK = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 16}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_official_recipe_obeys_the_seed_and_leaves_the_global_generator(pipeline):
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sampling = pipeline.sampling.changed({**QUICK, "recipe": "official"})
    state = torch.get_rng_state()
    first = restore(pipeline, rgb, seed=3, key=0, sampling=sampling).rgb
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    np.testing.assert_array_equal(restore(pipeline, rgb, seed=3, key=0, sampling=sampling).rgb, first)
    assert (restore(pipeline, rgb, seed=4, key=0, sampling=sampling).rgb != first).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("negative_prompt", ["blur", "noise"]),
        ("output_type", "np"),
        ("return_dict", False),
        ("num_images_per_prompt", 2),
        ("latents", None),
        ("prompt_embeds", None),
        ("negative_prompt_embeds", None),
        ("callback_on_step_end_tensor_inputs", ["latents"]),
    ],
)
def test_what_the_pipeline_does_not_know_is_refused_by_name(pipeline, name, value):
    with pytest.raises(ValueError, match=name):
        pipeline(np.zeros((16, 16, 3), np.uint8), **QUICK, **{name: value})
