"""The page of `seesr demo`."""

import numpy as np
import pytest
from PIL import Image
from stacks import small_stack

pytest.importorskip("gradio", reason="the extra [demo] is not installed")


def test_the_page_looks_and_restores():
    from seesr_pl.cli.page import _look, page
    from seesr_pl.jobs.restore import weights_hashes
    from seesr_pl.sampling.pipeline import SeeSRPipeline

    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    weights = weights_hashes(pipeline)
    restore = next(one.fn for one in page(pipeline).fns.values() if one.name == "restore")
    assert pipeline.ram.is_merged
    image = Image.fromarray(np.zeros((128, 128, 3), np.uint8))
    assert isinstance(_look(pipeline)(image), str)
    (before, after), made = restore(image, "sky", "", "turbo", 4, 0)
    assert before.shape == after.shape == (512, 512, 3)
    assert (made["seed"], made["sampler"], made["settings"]["num_inference_steps"]) == (0, "turbo", 2)
    assert made["weights"] == weights
    assert "seesr-pl" in made["versions"]
