"""A loss or gradient that is not finite ends the run, names what it met, and can be seen again."""

import csv

import pytest
import torch
from machine_runs import global_step, prepared, shards, words
from typer.testing import CliRunner

from seesr_pl.checkpoints.saved import not_finite
from seesr_pl.cli import commands
from seesr_pl.training.stops import NotFinite

pytestmark = pytest.mark.whole

TRUSTED = ("--trust", "stacks.small_stack")


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"))


def column(run, name):
    with (run / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


@pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])
def test_the_run_ends_with_the_step_the_samples_and_the_command_that_shows_them(pattern, tmp_path, gradients):
    fault = ("NotANumberAt", {"step": 3, "gradients": gradients})
    line = words(pattern, tmp_path, steps=6, nan=fault)
    with pytest.raises(NotFinite) as stop:
        prepared([*line, "callbacks.last.every_n_steps=2"])()
    message, run = str(stop.value), tmp_path / "seesr"
    blamed = "the gradients are not finite" if gradients else "the loss of these samples is not finite: "
    assert message.startswith(f"step 3: {blamed}")
    assert f"last good checkpoint: {run}/checkpoints/last.ckpt, step 2" in message
    assert f"seesr replay {run} --step 3" in message
    for path in (run / "checkpoints").iterdir():
        assert not_finite(torch.load(path, weights_only=True)) == []
        assert global_step(path) <= 2
    shown = (
        CliRunner()
        .invoke(commands, ["replay", str(run), "--step", "3", "--device", "cpu", *TRUSTED])
        .output.splitlines()
    )
    assert shown[0] == f"step 3 of {run}, weights after step 2 ({run}/checkpoints/last.ckpt)"
    named = [line.split()[1] for line in shown if line.startswith("sample ")]
    assert len(named) == 2
    assert gradients or all(f" {number} (" in message for number in named)
    assert (run / "replay" / "step_3.png").stat().st_size > 1000


def test_the_last_step_is_judged_too(pattern, tmp_path):
    with pytest.raises(NotFinite, match=r"step 1: the loss(.|\n)*there is no good checkpoint yet"):
        prepared(words(pattern, tmp_path, steps=2, nan=("NotANumberAt", {"step": 1})))()
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_step_that_is_left_out_changes_nothing_and_is_counted(pattern, tmp_path):
    line = words(pattern, tmp_path, steps=4, nan=("NotANumberAt", {"step": 2, "count": 1}))
    prepared([*line, "callbacks.gradient_norm.max_skipped=1", "callbacks.kept.every_n_steps=1"])()
    folder = tmp_path / "seesr" / "checkpoints"
    before, after, end = (torch.load(folder / f"step_{step:07d}.ckpt", weights_only=True) for step in (2, 3, 4))
    names = before["state_dict"].keys()
    assert all(torch.equal(before["state_dict"][name], after["state_dict"][name]) for name in names)
    assert any(not torch.equal(end["state_dict"][name], after["state_dict"][name]) for name in names)
    assert column(tmp_path / "seesr", "train/skipped_steps") == {0: 0, 1: 0, 2: 1, 3: 1}


def test_more_steps_than_may_be_left_out_end_the_run(pattern, tmp_path):
    line = words(pattern, tmp_path, steps=6, nan=("NotANumberAt", {"step": 1, "count": 3}))
    with pytest.raises(NotFinite, match="step 3: the loss"):
        prepared([*line, "callbacks.gradient_norm.max_skipped=2"])()


@pytest.mark.parametrize("step", [0, 2])
def test_a_step_that_is_replayed_from_its_own_weights_has_the_loss_that_was_logged(pattern, tmp_path, step):
    prepared([*words(pattern, tmp_path, steps=3), "callbacks.kept.every_n_steps=2", "data.global_batch_size=4"])()
    run = tmp_path / "seesr"
    if step == 0:
        for path in (run / "checkpoints").iterdir():
            path.unlink()
    out = CliRunner().invoke(commands, ["replay", str(run), "--step", str(step), "--device", "cpu", *TRUSTED]).output
    assert ("weights that the run started from" in out) == (step == 0)
    mean = float(out.splitlines()[-1].split()[2].rstrip(";"))
    assert mean == pytest.approx(column(run, "train/loss")[step], rel=1e-4)
