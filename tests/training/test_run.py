"""The same command finds its way back into its run, and another config does not."""

from pathlib import Path

import pytest

from seesr_pl.training.run import config_changes, resume_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    return tmp_path


def test_a_run_without_a_checkpoint_starts_fresh(tmp_path: Path) -> None:
    assert resume_checkpoint(tmp_path, now={"seed": 1}, before={}, resume="auto") is None


def test_more_steps_and_other_devices_continue_the_run(folder: Path) -> None:
    before = {"seed": 1, "trainer": {"max_steps": 10}, "data": {"num_workers": 1}}
    now = {"seed": 1, "trainer": {"max_steps": 20, "devices": 2}, "data": {"num_workers": 4}}
    assert resume_checkpoint(folder, now=now, before=before, resume="auto") == folder / "checkpoints" / "last.ckpt"


def test_another_learning_rate_is_refused_with_both_values(folder: Path) -> None:
    before, now = {"module": {"learning_rate": 1e-4}}, {"module": {"learning_rate": 2e-4}}
    with pytest.raises(ValueError, match=r"module.learning_rate: 0.0001 -> 0.0002(.|\n)*resume=force"):
        resume_checkpoint(folder, now=now, before=before, resume="auto")
    assert resume_checkpoint(folder, now=now, before=before, resume="force") is not None


def test_changes_name_keys_that_appear_and_vanish() -> None:
    assert list(config_changes({"a": {"b": 1}}, {"a": {"c": 2}})) == ["a.b: 1 -> None", "a.c: None -> 2"]


def test_a_member_of_a_list_that_changes_is_named() -> None:
    assert list(config_changes({"a": [{"b": 1}, 2]}, {"a": [{"b": 3}]})) == ["a.0.b: 1 -> 3", "a.1: 2 -> None"]


@pytest.mark.parametrize("key", ["precision", "gradient_clip_val"])
def test_what_the_trainer_changes_of_the_learning_is_named(key):
    before, now = ({"trainer": {key: value, "devices": value}} for value in (1, 2))
    assert list(config_changes(before=before, now=now)) == [f"trainer.{key}: 1 -> 2"]
