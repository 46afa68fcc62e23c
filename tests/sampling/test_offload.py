"""Networks that wait elsewhere while they do not run change no result."""

import numpy as np
import pytest
import torch
from stacks import small_stack

from seesr_pl.sampling.offload import on_device, require_gpu
from seesr_pl.sampling.pipeline import SeeSRPipeline

SETTINGS = {"num_inference_steps": 1, "process_size": 64, "guidance_scale": 2.0}


def test_an_offloaded_pipeline_gives_the_same_image_again_and_again():
    rgb, results = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8), []
    for way in ("none", "model"):
        pipeline = on_device(SeeSRPipeline(*small_stack()), "cpu", way)
        pipeline.set_progress_bar_config(disable=True)
        for _ in range(2):
            pixels = pipeline(rgb, generator=torch.Generator().manual_seed(0), **SETTINGS).images[0]
            results.append(np.asarray(pixels))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_there_is_nothing_to_save_without_a_gpu():
    require_gpu("none", "cpu")
    with pytest.raises(ValueError, match="--offload model saves memory of a GPU; on cpu leave it out"):
        require_gpu("model", "cpu")
