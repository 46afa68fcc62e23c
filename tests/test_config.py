"""A wrong config is refused before anything is built, by a message that names the key and the fix."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import DictConfig, OmegaConf

from seesr_pl import config
from seesr_pl.annotations import accepts
from seesr_pl.files import MissingFile


class Network:
    """A target with one argument of each kind."""

    def __init__(self, width: int, *, rate: float = 0.1, mode: Literal["a", "b"] = "a", part: Any = None) -> None:
        self.width = width

    @classmethod
    def missing_files(cls, width: int) -> list[MissingFile]:
        return [MissingFile(f"weights/{width}.bin", "its authors", "set module.width")] if width > 8 else []


def _config(**module: Any) -> DictConfig:
    node = {"_target_": f"{__name__}.Network", "width": 4} | module
    return OmegaConf.create({"seed": 0, "run_name": "a", "resume": "auto", "module": node})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Network.__module__])


def test_a_config_that_fits_its_constructors_passes() -> None:
    config.check(_config(rate=1, mode="b", part={"_target_": f"{__name__}.Network", "width": 1}))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ({"widht": 3}, ["module.widht: unknown key", "did you mean module.width?"]),
        ({"width": "wide"}, ["module.width = 'wide'", "expected int"]),
        ({"mode": "c"}, ["module.mode = 'c'", "'a', 'b'"]),
        ({"width": "???"}, ["module.width = ???", "module.width=VALUE"]),
        ({"part": {"_target_": "seesr_pl.nowhere.Thing"}}, ["module.part._target_", "cannot be imported"]),
    ],
)
def test_each_mistake_is_named_with_its_path(module: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(config.ConfigError) as error:
        config.check(_config(**module))
    assert all(word in str(error.value) for word in words)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(config.ConfigError) as error:
        config.check(_config(widht=3, rate="fast"))
    assert len(error.value.problems) == 2


def test_an_unknown_root_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(config.ConfigError, match="did you mean seed"):
        config.check(OmegaConf.merge(_config(), {"sed": 1}))  # type: ignore[arg-type]  # merge may give a list


@pytest.mark.parametrize("key", ["paths.weigths", "callbacks.lst.every_n_steps"])
def test_a_misspelt_name_in_a_group_without_a_class_is_refused(key: str) -> None:
    cfg = OmegaConf.merge(_config(), {"paths": {"weights": "w"}, "callbacks": {"last": {"_target_": "builtins.dict"}}})
    OmegaConf.update(cfg, key, 1, force_add=True)
    with pytest.raises(config.ConfigError, match=r"did you mean (paths.weights|callbacks.last)\?"):
        config.check(cfg)  # type: ignore[arg-type]  # merge may give a list


def test_a_key_that_an_experiment_adds_to_a_group_without_a_class_is_known() -> None:
    config.check(OmegaConf.merge(_config(), {"paths": {"weights": "w", "debian": "d"}}))  # type: ignore[arg-type]  # merge may give a list


def test_a_config_of_no_command_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="no config of this project"):
        config.check(OmegaConf.create({"sed": 1}))


def test_a_class_of_an_extra_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(config.ConfigError, match=r"cannot be imported.*pip install 'seesr-pl\[8bit\]'"):
        config.check(_config(part={"_target_": "bitsandbytes.optim.AdamW8bit", "_partial_": True}))


def test_every_missing_file_is_in_one_message() -> None:
    cfg = _config(width=16, part={"_target_": f"{__name__}.Network", "width": 32})
    with pytest.raises(FileNotFoundError, match=r"(?s)2 needed.*16\.bin.*its authors.*32\.bin"):
        config.preflight(cfg)


def test_preflight_is_silent_when_nothing_is_missing() -> None:
    config.preflight(_config())


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, float, True), (1.5, int, False), (True, int, False), ("1", int, False), ("x", Path, True),
        (None, int | None, True), (None, int, False), ([1, 2], Sequence[int], True), ([1, "a"], Sequence[int], False),
        ([1, 2], tuple[int, int], True), ([1], tuple[int, int], False), ({"a": 1}, int, False),
        ({"a": 1}, Mapping[str, int], True), (3, Sequence[int], False), ({"_target_": "x"}, Callable[[], int], True),
    ],
)  # fmt: skip
def test_a_value_fits_its_annotation_or_not(value: Any, hint: Any, fits: bool) -> None:
    assert accepts(value, hint) is fits
