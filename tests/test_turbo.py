"""`experiment=seesr_turbo` from weights in the published formats, at a tiny size, to a step and a restored picture."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from hydra import compose, initialize_config_dir
from sd_folders import seesr_networks, stock_unet, write_stable_diffusion, write_tagger
from stacks import small_ram

from seesr_pl import config
from seesr_pl.checkpoints.seesr import Networks, export_official, rca_state_dict
from seesr_pl.data import ShardWriter

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64
ON_A_CPU = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32", "module.frozen_dtype=float32")
ONE_STEP = ("trainer.max_steps=1", "trainer.val_check_interval=1", "data.global_batch_size=2")
SMALL = ("data.micro_batch_size=1", f"+data.crop_size={SIZE}", "+data.num_workers=0")


def write_shards(folder: Path) -> None:
    for name in ("lsdir", "ffhq", "div2k"):
        with ShardWriter(folder / name) as writer:
            for number in range(2):
                image = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
                writer.write(f"{number}", cv2.imencode(".png", image)[1].tobytes(), extension="png")


@pytest.fixture(scope="module")
def seesr() -> Networks:
    return seesr_networks(0)


@pytest.fixture(scope="module")
def run(seesr, tmp_path_factory):
    """The folder of the run, and the module after one step."""
    folder = tmp_path_factory.mktemp("turbo")
    euler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    write_stable_diffusion(folder / "weights" / "sd-turbo", seed=1, scheduler=euler)
    write_tagger(folder / "weights", small_ram())
    export_official(seesr, folder / "weights" / "seesr")
    write_shards(folder / "shards")
    cfg = composed(folder, *ON_A_CPU, *ONE_STEP, *SMALL)
    config.check(cfg)
    config.preflight(cfg)
    specification = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    train = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(train)
    fit = train.prepare(cfg)
    fit()
    return folder / "outputs" / "seesr_turbo", fit.args[0]


def composed(folder: Path, *overrides: str):
    paths = [f"paths.{name}={folder}/{name}" for name in ("weights", "shards", "outputs")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=["experiment=seesr_turbo", *paths, *overrides])


def test_what_is_missing_is_named_before_anything_is_built(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        config.preflight(composed(tmp_path))
    for words in ("sd-turbo/unet", "stabilityai/sd-turbo", "weights/seesr", "DAPE.pth", "lsdir"):
        assert words in str(error.value)


@pytest.mark.slow
def test_a_step_trains_the_networks_of_seesr_on_the_frozen_unet_of_sd_turbo(run, seesr):
    module = run[1]
    now, base = module.unet.state_dict(), stock_unet(1).state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in base.items())
    rates = 2 * module.learning_rate  # AdamW moves a weight by no more than the learning rate, and its decay
    started = (rca_state_dict(seesr.unet), seesr.controlnet.state_dict())
    for end, start in zip((now, module.controlnet.state_dict()), started, strict=True):
        moved = [(end[name] - tensor).abs().max().item() for name, tensor in start.items()]
        assert max(moved) > 0
        assert max(moved) < rates


@pytest.mark.slow
def test_a_validation_picture_is_restored_in_two_steps_without_guidance(run):
    folder, module = run
    assert module.scheduler.config.timestep_spacing == "trailing"
    panel = cv2.imread(str(folder / "validation" / "step_0000001.png"))
    assert panel.shape[1] == 3 * SIZE
    assert (folder / "checkpoints" / "last.ckpt").is_file()
