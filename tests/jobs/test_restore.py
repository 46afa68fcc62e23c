"""Which results the restoring of files keeps: those that the same file, settings, weights and seed made."""

import numpy as np
import pytest
import torch
from PIL import Image
from stacks import small_stack

from seesr_pl.jobs.restore import Job, Restorer, RestorerSettings
from seesr_pl.sampling.pipeline import SeeSRPipeline

SETTINGS = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64, "prompt": ""}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def state(pipeline, tmp_path):
    """What becomes of one image, restored once before, under other arguments."""
    levels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "lq.png")

    def state(*, sample=0, target="restored.png", seed=0, settings=None, **arguments):
        told = RestorerSettings(lambda device: pipeline, None, SETTINGS | (settings or {}), seed, **arguments)
        restorer = Restorer(pipeline, told)
        outcome = restorer(Job(tmp_path / "lq.png", tmp_path / target, sample), lambda amount: None)
        pipeline.describe_by("own")
        return outcome.state

    assert state() == "restored"
    return state


def test_the_same_again_is_kept_unless_told_otherwise(state):
    assert state() == "kept"
    assert state(overwrite=True) == "restored"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"prompt": "old"}},
        {"settings": {"num_inference_steps": 2}},
        {"seed": 1},
        {"sample": 1},
        {"prompter": "none"},
        {"settings": {"scheduler": "ddim"}},
        {"target": "restored.webp"},
    ],
    ids=str,
)
def test_what_other_facts_made_is_not_kept(state, change):
    assert state(**change) == "restored"
    assert state(**change) == "kept"


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet", "controlnet", "ram"])
def test_what_other_weights_made_is_not_kept(state, pipeline, part):
    parameter = next(getattr(pipeline, part).parameters())
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.mul_(1.001)
        try:
            assert state() == "restored"
        finally:
            parameter.copy_(before)


def test_what_another_image_made_is_not_kept(state, tmp_path):
    Image.new("RGB", (16, 12), "red").save(tmp_path / "lq.png")
    assert state() == "restored"


@pytest.fixture
def ablated(pipeline):
    """The pipeline with the representation of plain RAM."""
    pipeline.register_to_config(representation="ram")
    yield pipeline
    pipeline.register_to_config(representation="dape")


def test_what_another_ablation_made_is_not_kept(state, ablated):
    assert state() == "restored"
    assert state() == "kept"


def test_without_a_sampler_the_pipelines_own_settings_hold():
    own = SeeSRPipeline(*small_stack(), sampler={"tile": 40})
    assert Restorer(own, RestorerSettings(lambda device: own, None, SETTINGS)).sampling.tile == 40
    assert Restorer(own, RestorerSettings(lambda device: own, "official", SETTINGS)).sampling.tile == 96


def test_a_prompter_says_the_tags(state, tmp_path):
    assert '"tags": ""' not in (tmp_path / "restored.json").read_text()
    assert state(prompter="none") == "restored"
    assert '"tags": ""' in (tmp_path / "restored.json").read_text()
