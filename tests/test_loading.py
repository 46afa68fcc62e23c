"""A run found again restores as it was trained: what its ablation left out stays out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from seesr_pl import loading
from seesr_pl.sampling import OFFICIAL
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.tiny.stack import tiny_stack

CONF = Path(__file__).resolve().parents[1] / "conf"
SETTINGS = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64}


@pytest.fixture
def run(tmp_path):
    """From overrides to the folder of a run of experiment=tiny_seesr that was saved before its first step."""

    def run(*overrides):
        words = ["experiment=tiny_seesr", "module.stack.weights=random", "sampler=run", *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=words)
        module = instantiate(cfg.module, _convert_="all")
        module.hash_frozen()
        checkpoint = {"state_dict": module.state_dict()}
        module.on_save_checkpoint(checkpoint)
        (tmp_path / "checkpoints").mkdir()
        torch.save(checkpoint, tmp_path / "checkpoints" / "last.ckpt")
        OmegaConf.save(cfg, tmp_path / "config.yaml")
        return tmp_path

    return run


@pytest.fixture
def picture():
    levels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((16, 16), Image.Resampling.BICUBIC)


def restored(pipeline, picture, **settings):
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(picture, generator=torch.Generator().manual_seed(0), **SETTINGS, **settings)
    return np.asarray(output.images[0]).astype(int), output.tags[0]


def test_a_run_restores_as_the_pipeline_of_its_parts(run, picture):
    ours, tags = restored(loading.pipeline_of(run()), picture)
    theirs, their_tags = restored(SeeSRPipeline(*tiny_stack()), picture)
    np.testing.assert_array_equal(ours, theirs)
    assert tags == their_tags


def test_a_run_without_representation_restores_as_one_whose_tagger_sees_nothing(run, picture):
    blind, sighted = tiny_stack(), tiny_stack()
    for parameter in blind.ram.image_proj.parameters():
        torch.nn.init.zeros_(parameter)
    ours, _ = restored(loading.pipeline_of(run("module.representation=none")), picture, tags=["wood"])
    np.testing.assert_allclose(ours, restored(SeeSRPipeline(*blind), picture, tags=["wood"])[0], atol=1)
    assert np.abs(ours - restored(SeeSRPipeline(*sighted), picture, tags=["wood"])[0]).max() > 1


def test_a_run_without_tags_restores_without_tags(run, picture):
    ours, tags = restored(loading.pipeline_of(run("+module.tags=none")), picture)
    assert tags == ""
    np.testing.assert_array_equal(ours, restored(SeeSRPipeline(*tiny_stack()), picture, tags=[""])[0])


def test_a_run_on_plain_ram_restores_without_the_lora_that_its_tagger_has(run, picture):
    folder = run("+module.stack.lora_rank=8", "module.representation=ram")
    pipeline = loading.pipeline_of(folder)
    for name, parameter in pipeline.ram.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ours, tags = restored(pipeline, picture)
    theirs, their_tags = restored(SeeSRPipeline(*tiny_stack(lora_rank=8)), picture)  # whose LoRA has no effect yet
    np.testing.assert_array_equal(ours, theirs)
    assert tags == their_tags


def test_a_run_without_rca_restores_the_same_whatever_its_tagger_sees(run, picture):
    pipeline = loading.pipeline_of(run("+module.rca=false"))
    first, _ = restored(pipeline, picture, tags=["wood"])
    for parameter in pipeline.ram.image_proj.parameters():
        torch.nn.init.normal_(parameter)
    np.testing.assert_array_equal(restored(pipeline, picture, tags=["wood"])[0], first)


def test_a_run_has_the_weights_of_its_checkpoint(run):
    folder = run()
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    name = next(name for name in checkpoint["state_dict"] if name.startswith("controlnet."))
    checkpoint["state_dict"][name] += 1
    torch.save(checkpoint, path)
    assert torch.equal(loading.module_of(folder).state_dict()[name], checkpoint["state_dict"][name])


def test_a_run_restores_with_its_own_sampler(run):
    pipeline = loading.pipeline_of(run("sampler=tiny", "sampler.tile=40"))
    assert pipeline.sampling == OFFICIAL.changed(
        {
            **{"num_inference_steps": 1, "guidance_scale": 1.0, "color_fix": "none"},
            **{"tile": 40, "overlap": 8, "process_size": 64},
        }
    )
