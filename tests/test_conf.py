"""Every shipped experiment composes and fits the constructors it names."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seesr_pl import config

CONF = Path(__file__).resolve().parents[1] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def _compose(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_fits_its_constructors(name: str) -> None:
    cfg = _compose(f"experiment={name}")
    if OmegaConf.is_missing(cfg.paths, "debian"):  # where the user unpacked the packages
        cfg.paths.debian = "packages"
    if name in ("seesr_24gb", "seesr_finetune") and find_spec("bitsandbytes") is None:
        with pytest.raises(config.ConfigError, match=r"1 problem(.|\n)*pip install 'seesr-pl\[8bit\]'"):
            config.check(cfg)
        cfg.module.optimizer._target_ = "torch.optim.AdamW"
    config.check(cfg)
    assert cfg.run_name


@pytest.mark.parametrize("group", ["trainer", "debug"])
def test_a_trainer_and_a_trial_fit_every_stage(group: str) -> None:
    for choice in sorted(path.stem for path in (CONF / group).glob("*.yaml")):
        for name in ("tiny_seesr", "tiny_dape"):
            config.check(_compose(f"experiment={name}", f"{group}={choice}"))


def test_the_number_of_devices_is_the_trainers_whatever_the_experiment() -> None:
    composed = [_compose("experiment=seesr", *words) for words in ([], ["trainer=gpu1"], ["trainer=nodes"])]
    assert [(cfg.trainer.devices, cfg.trainer.num_nodes) for cfg in composed] == [(8, 1), (1, 1), (8, 4)]
    assert _compose("experiment=seesr_24gb").trainer.devices == 1


@pytest.mark.parametrize("name", ["dape", "seesr"])
def test_a_full_size_experiment_names_every_file_it_misses(name: str, tmp_path: Path) -> None:
    cfg = _compose(f"experiment={name}", f"paths.weights={tmp_path}/weights", f"paths.shards={tmp_path}/shards")
    with pytest.raises(FileNotFoundError) as error:
        config.preflight(cfg)
    words = ["ram_swin_large_14m.pth", "ram_tag_list.txt", "seesr shards build", "module."]
    assert [word for word in words if word not in str(error.value)] == []


def test_a_captioner_that_is_not_there_is_told_before_anything_is_built(tmp_path: Path) -> None:
    words = ["+module.tags=caption", "+module.prompt_model=nobody/nothing"]
    cfg = _compose("experiment=tiny_seesr", *words, f"paths.shards={tmp_path}/shards")
    with pytest.raises(FileNotFoundError, match=r"nobody/nothing on Hugging Face\n.*set prompt_model to a folder"):
        config.preflight(cfg)
    cfg.module.prompt_model = str(tmp_path)
    assert "nobody" not in str(config.preflight(cfg))


@pytest.mark.parametrize("name", ["dape", "dape_official_code", "seesr", "seesr_official_code"])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_published_batch_is_cut_for_one_to_eight_devices(name: str, devices: int) -> None:
    data = instantiate(_compose(f"experiment={name}", "degradation=bicubic").data, _convert_="all")
    assert data.global_batch_size // (devices * data.accumulation(devices)) <= 8


def test_the_paper_settings_are_what_the_experiments_say() -> None:
    dape, seesr = _compose("experiment=dape"), _compose("experiment=seesr")
    assert (dape.trainer.max_steps, dape.data.global_batch_size) == (20_000, 32)
    assert (seesr.trainer.max_steps, seesr.data.global_batch_size) == (150_000, 192)
