"""A run found again restores as it was trained: what its ablation left out stays out."""

import functools
import importlib.util
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from stacks import small_stack

from seesr_pl import config, runs
from seesr_pl.cli import convert
from seesr_pl.data import ShardWriter
from seesr_pl.runs import RunFolder
from seesr_pl.sampling import OFFICIAL
from seesr_pl.sampling.pipeline import SeeSRPipeline

CONF = Path(__file__).resolve().parents[1] / "conf"
SMALL = ("experiment=seesr", "~module.stack", "+module.stack={_target_: stacks.small_stack}")
SMALL += ("module.channels_last=false", "module.frozen_dtype=float32")
load_module = functools.partial(runs.load_module, trust=["stacks.small_stack"])
load_pipeline = functools.partial(runs.load_pipeline, trust=["stacks.small_stack"])
SETTINGS = {"num_inference_steps": 1, "guidance_scale": 1.0, "process_size": 64}


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """The folder of a run without overrides."""
    return save_run(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def run(plain_run, tmp_path):
    """From overrides to the folder of a run on the small stack that was saved before its first step."""

    def run(*overrides):
        return save_run(tmp_path, *overrides) if overrides else shutil.copytree(plain_run, tmp_path, dirs_exist_ok=True)

    return run


def save_run(path, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*SMALL, *overrides])
    module = instantiate(cfg.module, _convert_="all")
    return save(module, cfg, path)


def save(module, cfg, path):
    module.hash_frozen()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    folder = RunFolder(path)
    folder.last_checkpoint.parent.mkdir()
    torch.save(checkpoint, folder.last_checkpoint)
    folder.record(cfg)
    return path


@pytest.fixture
def picture():
    levels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((16, 16), Image.Resampling.BICUBIC)


def train_script():
    specification = importlib.util.spec_from_file_location("train", CONF.parent / "train.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def restored(pipeline, picture, **settings):
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(picture, generator=torch.Generator().manual_seed(0), **SETTINGS, **settings)
    return np.asarray(output.images[0]).astype(int), output.tags[0]


def test_a_run_restores_as_the_pipeline_of_its_parts(run, picture):
    ours, tags = restored(load_pipeline(run()), picture)
    theirs, their_tags = restored(SeeSRPipeline(*small_stack()), picture)
    np.testing.assert_array_equal(ours, theirs)
    assert tags == their_tags


def test_a_run_without_representation_restores_as_one_whose_tagger_sees_nothing(run, picture):
    blind, sighted = small_stack(), small_stack()
    for parameter in blind.ram.image_proj.parameters():
        torch.nn.init.zeros_(parameter)
    ours, _ = restored(load_pipeline(run("+module.representation=none")), picture, tags=["wood"])
    np.testing.assert_allclose(ours, restored(SeeSRPipeline(*blind), picture, tags=["wood"])[0], atol=1)
    assert np.abs(ours - restored(SeeSRPipeline(*sighted), picture, tags=["wood"])[0]).max() > 1


def test_a_run_without_tags_restores_without_tags(run, picture):
    ours, tags = restored(load_pipeline(run("+module.tags=none")), picture)
    assert tags == ""
    np.testing.assert_array_equal(ours, restored(SeeSRPipeline(*small_stack()), picture, tags=[""])[0])


def test_a_run_on_plain_ram_restores_without_the_lora_that_its_tagger_has(run, picture):
    ours, tags = restored(load_pipeline(run("+module.representation=ram")), picture)
    theirs, their_tags = restored(SeeSRPipeline(*small_stack(dape=False)), picture)
    np.testing.assert_array_equal(ours, theirs)
    assert tags == their_tags
    assert (ours != restored(SeeSRPipeline(*small_stack()), picture)[0]).any()


def test_a_run_without_rca_restores_the_same_whatever_its_tagger_sees(run, picture):
    pipeline = load_pipeline(run("+module.rca=false"))
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
    assert torch.equal(load_module(folder).state_dict()[name], checkpoint["state_dict"][name])


def test_half_precision_is_that_of_all_networks_but_ram(run):
    pipeline = load_pipeline(run(), dtype="bfloat16")
    halved = {getattr(pipeline, part).dtype for part in ("vae", "text_encoder", "unet", "controlnet")}
    assert (halved, pipeline.ram.dtype) == ({torch.bfloat16}, torch.float32)


@pytest.mark.whole
def test_a_run_without_a_progress_bar_leaves_its_files_where_they_are_looked_for(tmp_path):
    with ShardWriter(tmp_path / "shards") as writer:
        for number in range(2):
            image = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
            writer.write(f"{number}", cv2.imencode(".png", image)[1].tobytes(), extension="png", tags="wood")
    source = f"{{_target_: seesr_pl.data.ShardSource, urls: {tmp_path}/shards/*.tar}}"
    words = [*SMALL, "trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32"]
    words += ["trainer.max_steps=1", "+trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"]
    words += ["trainer.val_check_interval=null", "callbacks.throughput=null"]
    words += ["data.global_batch_size=2", "data.micro_batch_size=2", "+data.num_workers=0", "+data.crop_size=96"]
    words += [f"data.sources=[{source}]", "data.validation_sources=[]", f"paths.outputs={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=words)
    config.check(cfg)
    fit = train_script().prepare(cfg)
    fit()
    run = RunFolder.of(tmp_path / "seesr")
    assert run.recorded() == cfg
    assert [line.split(",")[0] for line in run.metrics.read_text().splitlines()] == ["step", "0"]
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    assert checkpoint["global_step"] == 1
    assert not any("config" in state for state in checkpoint["callbacks"].values())


def test_a_run_restores_where_neither_its_optimizer_nor_its_data_is(run):
    folder = RunFolder(run())
    cfg = folder.recorded()
    cfg.module.optimizer = {"_target_": "nowhere.AdamW8bit", "_partial_": True}
    cfg.data.sources = [{"_target_": "seesr_pl.data.ShardSource", "urls": "nowhere/*.tar"}]
    folder.record(cfg)
    assert load_pipeline(folder.path).unet.config.in_channels == small_stack().unet.config.in_channels


@pytest.mark.parametrize("ckpt", ["", "checkpoints/last.ckpt"])
def test_a_run_is_found_by_its_folder_and_by_its_checkpoint(run, ckpt):
    folder = run()
    found = RunFolder.of(folder / ckpt)
    assert (found.path, found.checkpoint) == (folder, folder / "checkpoints" / "last.ckpt")
    assert found.recorded().run_name == "seesr"


def test_a_checkpoint_beside_its_config_is_found(run):
    folder = run()
    (folder / "checkpoints" / "last.ckpt").rename(folder / "step_0000001.ckpt")
    found = RunFolder.of(folder / "step_0000001.ckpt")
    assert (found.path, found.checkpoint) == (folder, folder / "step_0000001.ckpt")


@pytest.mark.parametrize(("gone", "message"), [("checkpoints/last.ckpt", "give a run folder"), ("config.yaml", "keep")])
def test_a_run_that_lacks_a_file_says_which(run, gone, message):
    folder = run()
    (folder / gone).unlink()
    with pytest.raises(FileNotFoundError, match=f"{Path(gone).name}.*{message}"):
        RunFolder.of(folder)


def test_a_run_is_loaded_without_a_warning(run, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)  # to where caplog listens
    load_pipeline(run())
    assert caplog.messages == []


def test_the_networks_of_seesr_are_not_asked_of_a_run_of_dape(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=tiny_dape", f"paths.run={tmp_path}"])
    save(instantiate(cfg.module, _convert_="all"), cfg, tmp_path)
    with pytest.raises(ValueError, match="is a run of DAPEDistillation; give one of experiment=seesr"):
        convert.seesr(tmp_path, tmp_path / "networks")
    assert not (tmp_path / "networks").exists()


def test_a_run_restores_with_its_own_sampler(run):
    pipeline = load_pipeline(run("sampler=turbo", "sampler.tile=40"))
    expected = {"num_inference_steps": 2, "guidance_scale": 1.0, "tile": 40, "overlap": 32}
    assert pipeline.sampling == OFFICIAL.changed(expected)
