"""A wrong value is refused at once, on one screen that names the value, the limit and the fix."""

import pytest
from PIL import Image
from typer.testing import CliRunner

import seesr_pl.evaluation
from seesr_pl import config, launch
from seesr_pl.cli import commands
from seesr_pl.config import CONF, composed
from seesr_pl.data import ShardDataModule
from seesr_pl.evaluation.options import option_problems

ONE_SCREEN = 25
NUMBERS = {
    "module.learning_rate": ("-1", "at least 0"),
    "module.learning_rate  ": ("nan", "at least 0"),
    "module.warmup_steps": ("-1", "at least 0"),
    "module.decay_steps": ("0", "at least 1"),
    "module.prompt_drop_probability": ("1.5", "0 to 1"),
    "sampler.num_inference_steps": ("0", "at least 1"),
    "trainer.max_steps": ("0", "at least 1"),
    "trainer.max_steps ": ("-5", "at least 1"),
    "trainer.devices": ("0", "at least 1, or -1"),
    "trainer.num_nodes": ("0", "at least 1"),
    "trainer.log_every_n_steps": ("0", "at least 1"),
    "trainer.val_check_interval": ("0", "more than 0"),
    "trainer.limit_val_batches": ("-1", "at least 0"),
    "trainer.gradient_clip_val": ("-1", "at least 0"),
    "data.num_workers": ("-1", "at least 0"),
    "data.global_batch_size": ("0", "at least 1"),
    "data.micro_batch_size": ("0", "at least 1"),
    "data.validation_batch_size": ("0", "at least 1"),
    "data.crop_size": ("0", "at least 1"),
    "data.prefetch_factor": ("0", "at least 1"),
    "data.num_retries": ("-1", "at least 0"),
    "data.first_wait_seconds": ("-1", "at least 0"),
    "data.max_bad_fraction": ("2", "0 to 1"),
    "data.cache_gigabytes": ("-1", "more than 0"),
    "callbacks.last.every_n_steps": ("0", "at least 1"),
    "seed": ("-1", "at least 0"),
    "degradation.final_sinc_probability": ("-0.1", "0 to 1"),
}
WORDS = {
    "module.learning_rate": ("fast", "expected float"),
    "module.optimizer": ("{lr:1}", "a mapping with _target_"),
    "module.learning_rat": ("1", "did you mean module.learning_rate?"),
    "modul.learning_rate": ("1", "did you mean module?"),
    "trainer.max_steps": ("1.5", "expected int"),
    "trainer.precision": ("8", "expected"),
    "trainer.devices": ("two", "expected auto, a number"),
    "max_steps": ("3", "did you mean trainer.max_steps=3?"),
    "data.crop": ("center", "one of 'random', 'resize'"),
    "data.num_workers": ("many", "expected int"),
    "callbacks.gradient_norm": ("5", "expected null"),
    "resume": ("perhaps", "one of 'auto', 'force', 'never'"),
    "seed": ("abc", "expected int"),
    "logger": ("tensorbord", "logger=tensorbord does not exist"),
    "experiment": ("tiny_sesr", "did you mean experiment=tiny_seesr?"),
    "paths.outputs": ("/proc/x", "cannot be written to"),
    "trainer.accelerator": ("gpu", "give trainer.accelerator=cpu"),
}
DAPE = {
    "module.lora_rank": ("0", "at least 1"),
    "module.milestones": ("[-1]", "at least 1"),
    "module.gamma": ("-1", "more than 0"),
    "module.representation_weight": ("-1", "at least 0"),
    "module.severity_bins": ("0", "at least 1"),
}
EVALUATION = {
    "benchmark.scale": ("0", "at least 1"),
    "benchmark.max_images": ("0", "at least 1"),
    "benchmark.count": ("-1", "at least 1"),
    "seed": ("-1", "at least 0"),
    "sampler.guidance_scale": ("0.5", "at least 1"),
    "task": ("both", "one of 'auto', 'restoration', 'tags'"),
    "stages": ("[restor]", "one of 'restore', 'score', 'report'"),
    "dtype": ("int8", "one of 'auto', 'float32', 'bfloat16', 'float16'"),
    "compare": ("[/nowhere]", "/nowhere: is no folder"),
    "benchmark.root": ("/nowhere", "benchmark.root=FOLDER"),
    "benchmark": ("realsrr", "did you mean benchmark=realsr?"),
}


def start(name, words):
    """What `train.py` and `evaluate.py` do before they build anything."""
    cfg = composed(name, launch.overrides(words, CONF, name))
    config.check(cfg)
    values = config.plain(cfg)
    if name == "evaluate" and (problems := option_problems(values, needs_ckpt=False, outputs="outputs")):
        raise config.ConfigError(problems)
    config.preflight(cfg)


def refusal(name, words):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        start(name, words)
    text = str(error.value)
    assert len(text.splitlines()) <= ONE_SCREEN
    return text


@pytest.mark.parametrize(("key", "value", "limit"), [(k.strip(), *v) for k, v in (*NUMBERS.items(), *WORDS.items())])
def test_a_training_run(key, value, limit):
    words = [] if key == "experiment" else ["experiment=tiny_seesr"]
    text = refusal("train", [*words, f"{key}={value}"])
    assert limit in text
    assert key.split(".")[0] in text
    assert value.strip("[]{}.") in text or value == "{lr:1}"


@pytest.mark.parametrize(("key", "value", "limit"), [(key, *rest) for key, rest in DAPE.items()])
def test_a_training_run_of_dape(key, value, limit):
    text = refusal("train", ["experiment=tiny_dape", f"{key}={value}"])
    assert limit in text
    assert key in text
    assert value.strip("[]") in text


@pytest.mark.parametrize(("key", "value", "limit"), [(key, *rest) for key, rest in EVALUATION.items()])
def test_an_evaluation(key, value, limit, tmp_path):
    words = ["method=bicubic", f"benchmark.root={tmp_path}", "benchmark=folder"]
    text = refusal("evaluate", [*(word for word in words if not word.startswith(f"{key}=")), f"{key}={value}"])
    assert limit in text
    assert key in text
    assert value.strip("[]") in text


def test_no_metric_is_refused():
    with pytest.raises(ValueError, match=r"metrics: none is named; known: psnr_y"):
        seesr_pl.evaluation.image_metrics([])


def test_the_limits_are_those_of_the_constructor_itself():
    with pytest.raises(ValueError, match=r"^num_workers=-1 must be at least 0$"):
        ShardDataModule([], global_batch_size=1, num_workers=-1)
    with pytest.raises(ValueError, match=r"^global_batch_size=0 must be at least 1$"):
        ShardDataModule([], global_batch_size=0)


COMMANDS = {
    "shards build a.png": "at least one SOURCE",
    "shards build a.png out --shard-size 0": "shard_size=0",
    "shards build a.png out --workers 0": "workers=0 must be at least 1",
    "shards build a.png out --quality 101": "quality=101",
    "shards build nowhere out": "nowhere does not exist",
    "shards build empty out": "no image and no archive found in empty",
    "shards build a.png file": "file is a file, not a folder",
    "shards show nowhere.tar --out s.png --num 0": "--num 0 must be at least 1",
    "shards show nowhere.tar --out s.png --epoch -1": "--epoch -1 must be at least 0",
    "shards show nowhere.tar --out s.png --first -2": "--first -2 must be at least 0",
    "shards show nowhere.tar --out s.png": "seesr shards index nowhere.tar",
    "shards verify nowhere.tar": "seesr shards index nowhere.tar",
    "shards verify http://127.0.0.1:1/x.tar": "check its address",
    "shards index a.png": "a.png holds no whole image sample",
    "restore a.png --out o": "give --ckpt",
    "restore a.png --out o --ckpt a.png": "a.png",
    "restore a.png --out o --ckpt nowhere": "nowhere does not exist",
    "restore a.png --out file --ckpt nowhere": "--out file cannot be a folder",
    "restore empty --out o --ckpt nowhere": "empty holds no image",
    "restore a.png --out o --ckpt nowhere --steps 0": "num_inference_steps=0 must be at least 1",
    "restore a.png --out o --ckpt nowhere --upscale 0": "upscale=0.0 must be at least 0.1",
    "restore a.png --out o --ckpt nowhere --tile 4 --overlap 4": "overlap=4 must be below tile=4",
    "restore a.png --out o --ckpt nowhere --devices cuda:7": "device=cuda:7 is not available",
    "restore a.png --out o --ckpt nowhere --devices potato": "device=potato is not available",
    "tag a.png --out o --ram nowhere.pth": "nowhere.pth",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 12)).save("a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    result = CliRunner().invoke(commands, command.split())
    assert result.exit_code != 0
    assert isinstance(result.exception, ValueError | OSError), result.output
    assert COMMANDS[command] in str(result.exception)
    assert len(str(result.exception).splitlines()) <= ONE_SCREEN
