"""A sampling setting is one field: each is found in every view, and its limits hold in all of them."""

import inspect
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from typer.testing import CliRunner

from seesr_pl import config
from seesr_pl.cli import commands
from seesr_pl.evaluation import SeeSRMethod
from seesr_pl.sampling import OFFICIAL, SAMPLERS, Sampling, sampler
from seesr_pl.sampling.settings import at_fidelity, settings

ROOT = config.__file__.rsplit("/src/", 1)[0]
NAMES = [setting.name for setting in settings()]


@pytest.fixture(scope="module")
def help_text():
    result = CliRunner().invoke(commands, ["restore", "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 0
    return re.sub(r"\s+", " ", result.output)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_an_option_of_seesr_restore_with_its_help(help_text, name):
    setting = next(setting for setting in settings() if setting.name == name)
    assert re.search(rf"--{name.replace('_', '-')}\b", help_text)
    assert setting.help in help_text


@pytest.mark.parametrize("primary", ["train", "evaluate"])
def test_every_setting_is_in_the_composed_config(primary):
    with initialize_config_dir(f"{ROOT}/conf", version_base="1.3"):
        cfg = compose(primary, overrides=["experiment=seesr"] if primary == "train" else ["benchmark.root=x"])
    assert set(cfg.sampler) == {"_target_", *NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_checked_in_a_config(name):
    parameter = inspect.signature(sampler).parameters[name]
    assert parameter.default is None
    assert sampler(**{name: getattr(OFFICIAL, name)}) in ({name: getattr(OFFICIAL, name)}, {})


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_reaches_the_pipeline_and_the_evaluated_method(name):
    changed = _other_value(name)

    class Pipeline:
        sampling = OFFICIAL

    method = SeeSRMethod(Pipeline(), sampler={name: changed}, scale=8)
    assert getattr(method.sampling, name) == (8 if name == "upscale" else changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps=0 must be at least 1"),
        ({"num_inference_steps": 2.5}, "num_inference_steps=2.5 must be of type int"),
        ({"num_inference_steps": True}, "num_inference_steps=True must be of type int"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan must be at least 1"),
        ({"guidance_fraction": 1.5}, "guidance_fraction=1.5 must be 0 to 1"),
        ({"start_from": "zero"}, "start_from='zero' is not one of lq, noise"),
        ({"tile": 8, "overlap": 8}, "overlap=8 must be below tile=8"),
        ({"prompt": ["a", "b"]}, "must be of type str"),
        ({"stepz": 3}, "stepz is no sampling setting"),
        ({"guidance_scal": 3}, "did you mean guidance_scale"),
    ],
)
def test_a_wrong_setting_is_named_with_its_limit(changes, message):
    for view in (lambda: OFFICIAL.changed(changes), lambda: sampler(**changes)):
        with pytest.raises(ValueError, match=message):
            view()


def test_a_null_in_a_config_changes_nothing():
    assert sampler(**dict.fromkeys(NAMES)) == {}
    assert OFFICIAL.changed({}) is not None
    assert OFFICIAL.changed({}) == Sampling()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_named_sampler_is_the_same_in_conf_and_in_python(name):
    with initialize_config_dir(f"{ROOT}/conf", version_base="1.3"):
        cfg = compose("evaluate", overrides=["benchmark.root=x", f"sampler={name}"])
    given = {key: value for key, value in cfg.sampler.items() if key != "_target_"}
    assert OFFICIAL.changed(sampler(**given)) == SAMPLERS[name]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("own", ["tiny", "turbo"])
def test_a_named_sampler_replaces_the_whole_sampler_of_a_run(name, own):
    with initialize_config_dir(f"{ROOT}/conf", version_base="1.3"):
        run = compose("train", overrides=["experiment=seesr", f"sampler={own}"])
        cfg = compose("evaluate", overrides=["benchmark.root=x", f"sampler={name}"])

    class Pipeline:
        sampling = OFFICIAL.changed(instantiate(run.sampler))

    scheduler = {"official": "ddpm"}.get(name, SAMPLERS[name].scheduler)  # the official script's, where own may differ
    assert SeeSRMethod(Pipeline(), sampler=instantiate(cfg.sampler)).sampling == SAMPLERS[name].changed(
        {"scheduler": scheduler}
    )


def test_the_official_settings_are_the_published_ones():
    expected = {"num_inference_steps": 50, "guidance_scale": 5.5, "tile": 96, "overlap": 4, "process_size": 512}
    assert {name: getattr(OFFICIAL, name) for name in expected} == expected
    assert (OFFICIAL.start_from, OFFICIAL.color_fix, OFFICIAL.conditioning_scale) == ("lq", "adain", 1.0)
    assert OFFICIAL.added_prompt == "clean, high-resolution, 8k"
    assert OFFICIAL.negative_prompt == "dotted, noise, blur, lowres, smooth"


def _other_value(name):
    setting = next(setting for setting in settings() if setting.name == name)
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if isinstance(setting.default, bool):
        return not setting.default
    if isinstance(setting.default, str):
        return "other words"
    return {"guidance_fraction": 0.5, "vae_tile": 128}.get(name, (setting.default or 0) + 1)


def test_fidelity_moves_the_sampler_between_generative_and_faithful():
    for own in SAMPLERS.values():
        assert at_fidelity(own, 0.5) == own
        moved = [at_fidelity(own, step / 20) for step in range(21)]
        assert moved[-1].guidance_scale == 1
        weights, guidance = ([getattr(one, name) for one in moved] for name in ("conditioning_scale", "guidance_scale"))
        assert weights == sorted(set(weights))
        assert guidance == sorted(guidance, reverse=True)
        assert (moved[0].start_from, moved[-1].start_from, moved[-1].color_fix) == ("noise", "lq", "wavelet")
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0"):
            at_fidelity(OFFICIAL, value)
