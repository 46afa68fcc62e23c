"""What a command line becomes; the same command finds its way back into its run, and another config does not."""

import os
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from seesr_pl import config, job_names, launch
from seesr_pl.runs import RunFolder

CONF = Path(__file__).resolve().parents[1] / "conf"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run folder with a checkpoint and without a config."""
    run = RunFolder(tmp_path)
    run.last_checkpoint.parent.mkdir()
    torch.save({"global_step": 1, "optimizer_states": [{"state": {}}]}, run.last_checkpoint)
    return run


def _config(run: RunFolder, *, resume: str = "auto", **keys: Any) -> DictConfig:
    return OmegaConf.create({"resume": resume, "paths": {"run": str(run.path)}, "trainer": {}} | keys)


def test_a_run_without_a_checkpoint_starts_fresh(tmp_path: Path) -> None:
    assert launch.checkpoint_to_resume(_config(RunFolder(tmp_path), seed=1)) is None


def test_more_steps_and_other_devices_continue_the_run(run: RunFolder) -> None:
    run.record(_config(run, seed=1, trainer={"max_steps": 10}, data={"num_workers": 1}))
    now = _config(run, seed=1, trainer={"max_steps": 20, "devices": 2}, data={"num_workers": 4})
    assert launch.checkpoint_to_resume(now) == run.path / "checkpoints" / "last.ckpt"


def test_another_learning_rate_is_refused_with_both_values(run: RunFolder) -> None:
    run.record(_config(run, module={"learning_rate": 1e-4}))
    with pytest.raises(ValueError, match=r"module.learning_rate: 0.0001 -> 0.0002(.|\n)*resume=force"):
        launch.checkpoint_to_resume(_config(run, module={"learning_rate": 2e-4}))
    assert launch.checkpoint_to_resume(_config(run, module={"learning_rate": 2e-4}, resume="force")) is not None


def test_a_run_is_not_continued_where_none_may_be(run: RunFolder) -> None:
    run.record(_config(run))
    with pytest.raises(ValueError, match="resume=never"):
        launch.checkpoint_to_resume(_config(run, resume="never"))


def test_changes_name_keys_that_appear_and_vanish() -> None:
    assert list(launch.config_changes({"a": {"b": 1}}, {"a": {"c": 2}})) == ["a.b: 1 -> None", "a.c: None -> 2"]


def test_a_member_of_a_list_that_changes_is_named() -> None:
    assert list(launch.config_changes({"a": [{"b": 1}, 2]}, {"a": [{"b": 3}]})) == ["a.0.b: 1 -> 3", "a.1: 2 -> None"]


@pytest.mark.parametrize("key", ["precision", "gradient_clip_val"])
def test_what_the_trainer_changes_of_the_learning_is_named(key: str) -> None:
    before, now = ({"trainer": {key: value, "devices": value}} for value in (1, 2))
    assert list(launch.config_changes(before=before, now=now)) == [f"trainer.{key}: 1 -> 2"]


def test_arguments_that_the_yaml_leaves_out_can_be_set_without_a_plus() -> None:
    assert launch.overrides(["trainer.precision=bf16-mixed"], CONF, "train") == ["++trainer.precision=bf16-mixed"]


@pytest.mark.parametrize(("word", "key"), [("trainr.max_steps=3", "trainer"), ("benchmrk=realsr", "benchmark")])
def test_a_word_of_the_command_line_that_is_no_key_is_refused(word: str, key: str) -> None:
    with pytest.raises(config.ConfigError, match=f"did you mean {key}"):
        launch.overrides([word], CONF, "train" if key == "trainer" else "evaluate")


def test_a_group_choice_without_a_file_is_refused_with_the_nearest() -> None:
    with pytest.raises(config.ConfigError, match=r"logger=wandbb does not exist; did you mean logger=wandb\?"):
        launch.overrides(["logger=csv,wandbb"], CONF, "train")


def test_several_choices_of_a_group_may_be_combined() -> None:
    assert launch.overrides(["callbacks=[default,ema]"], CONF, "train") == ["callbacks=[default,ema]"]


def test_a_sweep_folder_is_named_by_what_varies() -> None:
    assert job_names.sweep_name(["experiment=tiny_dape", "++module.lora_rank=2"]) == "module.lora_rank=2"


@pytest.mark.skipif(find_spec("submitit") is not None, reason="the launcher is installed")
def test_slurm_without_its_launcher_names_the_extra() -> None:
    with pytest.raises(config.ConfigError, match=r"pip install 'seesr-pl\[slurm\]'"):
        launch.overrides(["launcher=slurm"], CONF, "train")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_needs_no_experiment_and_keeps_one_that_is_named(flag: str) -> None:
    assert launch.overrides([flag], CONF, "train") == [flag, "experiment=seesr"]
    assert launch.overrides([flag, "experiment=dape"], CONF, "train") == [flag, "experiment=dape"]
    assert launch.overrides([flag], CONF, "evaluate") == [flag]


@pytest.mark.whole
def test_train_prints_help_without_an_experiment() -> None:
    done = subprocess.run(
        [sys.executable, str(CONF.parent / "train.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "python train.py experiment=NAME" in done.stdout


def test_without_an_experiment_the_choices_are_told() -> None:
    with pytest.raises(ValueError, match=r"which experiment\?(.|\n)*experiment=dape +DAPE as the paper trains it\n"):
        launch.require_experiment(["seed=1"], CONF)


QUICK = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("torch" in sys.modules)
"""


@pytest.mark.whole
@pytest.mark.parametrize("words", [["experiment=dape"], ["-m", "experiment=dape", "seed=1,2"]], ids=["run", "sweep"])
def test_missing_files_are_told_before_torch_is_imported_and_no_folder_is_left(
    words: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", QUICK, str(CONF.parent / "train.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1 if "-m" in words else 2, "False")
    assert "weights/ram_swin_large_14m.pth" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_mistyped_key_is_told_before_the_files_that_are_missing(tmp_path: Path) -> None:
    command = [sys.executable, str(CONF.parent / "train.py"), "experiment=dape", "module.lora_rnk=4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "did you mean module.lora_rank?" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.whole
@pytest.mark.parametrize(("command", "said"), [("train", "experiment=NAME"), ("evaluate", "benchmark=realsr")])
def test_the_installed_commands_run_the_scripts_of_the_checkout(command: str, said: str, tmp_path: Path) -> None:
    program = f"import sys; from seesr_pl.launch import {command}; sys.argv[1:] = ['--help']; {command}()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout) == (0, True)


def test_a_wheel_takes_the_scripts_and_the_config_along() -> None:
    project = tomllib.loads((CONF.parent / "pyproject.toml").read_text())
    taken = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert taken == {name: f"seesr_pl/commands/{name}" for name in ("conf", "data", "train.py", "evaluate.py")}
    assert all((CONF.parent / name).exists() for name in taken)


@pytest.mark.parametrize(
    ("given", "job", "words"),
    [
        (["-m", "method=a,b", "++x.y=1"], ["method=a", "++x.y=1"], []),
        (["-m", "method=a", "++method.sigma=0.4,0.8"], ["method=a", "++method.sigma=0.4"], ["method.sigma=0.4"]),
        (["-m", "method=a,b", "run_name=one"], ["method=a", "run_name=one"], ["method=a"]),
        (["-m", "method=a,b", "++method.name=one"], ["method=b", "++method.name=one"], ["method=b"]),
    ],
)
def test_an_evaluation_of_a_sweep_is_named_by_what_varies_and_its_run_name_does_not_tell(
    monkeypatch, given, job, words
):
    monkeypatch.setattr("sys.argv", ["evaluate.py", *given])
    assert job_names.varied_words(job) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny_dape"], r"'tiny_dape' is no KEY=VALUE; did you mean experiment=tiny_dape"),
        (["experiment=dape", "fast"], r"'fast' is no KEY=VALUE; did you mean debug=fast\?"),
        (["-m", "nothing"], r"'nothing' is no KEY=VALUE$"),
    ],
)
def test_a_word_without_a_value_is_named_with_what_it_may_mean(words: list[str], message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        launch.overrides(words, CONF, "train")


def test_the_value_of_an_option_of_hydra_is_no_key() -> None:
    words = ["experiment=dape", "--cfg", "job", "--package", "module", "-m", "~logger"]
    assert launch.overrides(words, CONF, "train") == words
