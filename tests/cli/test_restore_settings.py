"""What `seesr restore` is told reaches the pipeline: settings, samplers, and the published weights."""

import json

import numpy as np
import official
import pytest
import torch
import typer
from PIL import Image
from sd_folders import write_published
from stacks import small_stack
from typer.testing import CliRunner

from seesr_pl import keyed
from seesr_pl.cli.restore import restore
from seesr_pl.imaging.io import read_rgb
from seesr_pl.sampling.pipeline import SeeSRPipeline

pytestmark = pytest.mark.whole

app = typer.Typer()
app.command()(restore)
QUICK = ("--steps", 1, "--guidance", 1, "--process-size", 64)
TOLD = {
    "upscale": ("--upscale", 2.0),
    "prompt": ("--prompt", "old stone wall"),
    "added_prompt": ("--added-prompt", "clean"),
    "negative_prompt": ("--negative-prompt", "blur"),
    "num_inference_steps": ("--steps", 3),
    "guidance_scale": ("--guidance", 4.0),
    "scheduler": ("--scheduler", "ddim"),
    "conditioning_scale": ("--conditioning-scale", 0.5),
    "guidance_fraction": ("--guidance-fraction", 0.5),
    "start_from": ("--start-from", "noise"),
    "color_fix": ("--color-fix", "wavelet"),
    "recipe": ("--recipe", "official"),
    "process_size": ("--process-size", 72),
    "tile": ("--tile", 8),
    "overlap": ("--overlap", 2),
    "vae_tile": ("--vae-tile", 64),
}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = SeeSRPipeline(*small_stack())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def lq(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "lq.png")
    return tmp_path / "lq.png"


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in (*words, "--devices", "cpu")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def restored(pipeline, lq, *, seed, sample=0, **settings):
    generator = keyed.torch_generator(seed, "restore", sample)
    return np.asarray(pipeline(Image.open(lq), generator=generator, **settings).images[0])


def test_every_option_reaches_the_pipeline(pipeline, saved, lq, tmp_path):
    options = [word for pair in TOLD.values() for word in pair]
    run(lq, "--ckpt", saved, "--out", tmp_path / "out", "--seed", 3, *options)
    # The official recipe has one generator for all images, which the seed itself begins.
    told = {name: value for name, (_, value) in TOLD.items()}
    expected = np.asarray(pipeline(Image.open(lq), generator=torch.Generator().manual_seed(3), **told).images[0])
    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "lq.png"), expected)


def test_what_is_not_told_is_official(pipeline, saved, lq, tmp_path):
    run(lq, "--ckpt", saved, "--out", tmp_path / "out", "--process-size", 64, "--steps", 2)
    expected = restored(pipeline, lq, seed=0, process_size=64, num_inference_steps=2)
    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "lq.png"), expected)


def test_the_networks_may_be_in_half_precision(saved, lq, tmp_path):
    run(lq, "--ckpt", saved, "--out", tmp_path / "out", *QUICK, "--dtype", "bfloat16")
    assert json.loads((tmp_path / "out" / "lq.json").read_text())["settings"]["dtype"] == "torch.bfloat16"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("published"), tagger=official.ram(dape=True))


def test_published_weights_may_be_in_half_precision(published, lq, tmp_path):
    words = ["--base", published.base, "--seesr", published.seesr, "--ram", published.ram]
    run(lq, *words, "--out", tmp_path / "out", *QUICK, "--dtype", "bfloat16")
    assert json.loads((tmp_path / "out" / "lq.json").read_text())["settings"]["dtype"] == "torch.bfloat16"


SAMPLERS = {
    "unipc20": {"num_inference_steps": 20, "guidance_scale": 5.5, "scheduler": "unipc", "tile": 96, "overlap": 4},
    "turbo": {"num_inference_steps": 2, "guidance_scale": 1.0, "scheduler": "own", "tile": 96, "overlap": 32},
}


@pytest.mark.parametrize(("sampler", "dape"), [("unipc20", True), ("turbo", False)])
def test_a_sampler_restores_with_the_published_weights_as_their_pipeline_does(published, lq, tmp_path, dape, sampler):
    words = ["--base", published.base, "--seesr", published.seesr, "--ram", published.ram]
    words += ["--dape", published.dape] if dape else []
    few = {"num_inference_steps": 2, "process_size": 64}  # of the sampler's 20 in the one case, all in the other
    run(lq, *words, "--out", tmp_path / "out", "--sampler", sampler, "--steps", 2, "--process-size", 64)
    pipeline = SeeSRPipeline.from_official(
        *published[:3], published.dape if dape else None, keep_base_unet=sampler == "turbo"
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = restored(pipeline, lq, seed=0, **SAMPLERS[sampler] | few)
    np.testing.assert_array_equal(read_rgb(tmp_path / "out" / "lq.png"), expected)
