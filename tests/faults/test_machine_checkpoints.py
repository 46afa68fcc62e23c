"""Checkpoints on a machine that breaks: flipped bits, cut files, NaN weights, a full disk, two writers."""

import logging
import math
import random
import resource
import subprocess
import sys

import pytest
import torch
from lightning import LightningModule, Trainer
from omegaconf import OmegaConf

from seesr_pl import launch
from seesr_pl.checkpoints.saved import damage, newest_sound, not_finite
from seesr_pl.files import write_whole
from seesr_pl.runs import RunFolder
from seesr_pl.training import AtomicCheckpointIO, KeptCheckpoints, LastCheckpoint
from seesr_pl.training.frozen import check_precision

STATE = {"state_dict": {"w": torch.arange(6000.0)}, "optimizer_states": [{"state": {0: {"m": torch.ones(300)}}}]}


def checkpoint(step):
    return {**STATE, "global_step": step}


@pytest.fixture
def run(tmp_path):
    """A run folder whose last, previous and kept checkpoint are of the steps 6, 4 and 3."""
    run, files = RunFolder(tmp_path), AtomicCheckpointIO()
    for step in (4, 6):
        files.save_checkpoint(checkpoint(step), run.last_checkpoint)
    files.save_checkpoint(checkpoint(3), run.last_checkpoint.with_name("step_0000003.ckpt"))
    return run


def config(run, **keys):
    return OmegaConf.create({"resume": "auto", "paths": {"run": str(run.path)}, "trainer": {}} | keys)


def flip(path, *, count, seed=0):
    data, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(count):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_the_file_before_the_last_is_kept_and_the_newest_is_chosen(run):
    assert newest_sound(run.checkpoints)[0] == (run.last_checkpoint, 6)
    assert newest_sound(run.checkpoints[1:])[0] == (run.last_checkpoint.with_name("previous.ckpt"), 4)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_are_noticed_or_change_no_value(run, seed):
    flip(run.last_checkpoint, count=1 + seed, seed=seed)
    if not damage(run.last_checkpoint):
        loaded = torch.load(run.last_checkpoint, weights_only=True)
        assert loaded["global_step"] == 6
        assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])


@pytest.mark.parametrize("cut", ["flipped", "half", "empty", "text", "gone"])
def test_a_run_goes_on_from_the_newest_sound_checkpoint_and_says_so_in_a_line(run, capsys, cut):
    last = run.last_checkpoint
    size = last.stat().st_size
    {
        "flipped": lambda: flip(last, count=64),
        "half": lambda: last.write_bytes(last.read_bytes()[: size // 2]),
        "empty": lambda: last.write_bytes(b""),
        "text": lambda: last.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "gone": last.unlink,
    }[cut]()
    assert launch.checkpoint_to_resume(config(run)) == last.with_name("previous.ckpt")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (0 if cut == "gone" else 1)
    assert all(str(last) in line and "previous.ckpt, step 4" in line for line in lines)


def test_a_run_of_which_no_checkpoint_is_sound_is_not_begun_anew(run):
    for path in run.checkpoints:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"last.ckpt is empty(.|\n)*no checkpoint of .* is sound; remove them"):
        launch.checkpoint_to_resume(config(run))


def test_the_checkpoint_of_a_requeued_job_is_taken_where_it_is_newer(run):
    requeued = run.path / "hpc_ckpt_2.ckpt"
    for step, expected in ((5, run.last_checkpoint), (7, requeued)):
        AtomicCheckpointIO().save_checkpoint(checkpoint(step), requeued)
        assert launch.checkpoint_to_resume(config(run)) == expected


def test_a_damaged_checkpoint_is_not_loaded_and_sound_ones_are_named(run):
    flip(run.last_checkpoint, count=64)
    with pytest.raises(ValueError, match=r"last.ckpt .*sound checkpoints beside it: .*previous.ckpt"):
        AtomicCheckpointIO().load_checkpoint(run.last_checkpoint)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["weight", "moment"])
def test_a_value_that_is_not_finite_is_never_written(run, caplog, value, part):
    broken = {"state_dict": {"w": torch.ones(5)}, "optimizer_states": [{"state": {0: {"m": torch.ones(5)}}}]}
    tensor = broken["state_dict"]["w"] if part == "weight" else broken["optimizer_states"][0]["state"][0]["m"]
    tensor[3] = value
    before = run.last_checkpoint.read_bytes()
    with caplog.at_level(logging.WARNING):
        AtomicCheckpointIO().save_checkpoint({**broken, "global_step": 7}, run.last_checkpoint)
    assert run.last_checkpoint.read_bytes() == before
    assert len(not_finite(broken)) == 1
    assert "not finite" in caplog.messages[-1]


def test_an_infinity_that_nobody_learned_is_written(tmp_path):
    kept = {"callbacks": {"kept": {"kth_value": torch.tensor(math.inf)}}, **checkpoint(1)}
    AtomicCheckpointIO().save_checkpoint(kept, tmp_path / "last.ckpt")
    assert newest_sound([tmp_path / "last.ckpt"])[0].step == 1


def test_a_full_disk_leaves_the_old_files_and_says_how_much_is_needed(run, caplog):
    before = {path.name: path.read_bytes() for path in run.last_checkpoint.parent.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        AtomicCheckpointIO().save_checkpoint(checkpoint(7), run.last_checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in run.last_checkpoint.parent.iterdir()} == before
    assert f"{run.last_checkpoint.parent} needs 0.0 GB (25,200 bytes)" in caplog.messages[-1]
    AtomicCheckpointIO().save_checkpoint(checkpoint(8), run.last_checkpoint)
    assert newest_sound(run.checkpoints)[0].step == 8


def test_a_folder_that_cannot_be_written_is_no_full_disk(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        AtomicCheckpointIO().save_checkpoint(checkpoint(1), tmp_path / "file" / "last.ckpt")


def test_a_run_whose_checkpoints_do_not_fit_is_told_before_it_starts(tmp_path, caplog):
    callbacks = [LastCheckpoint(tmp_path), KeptCheckpoints(tmp_path, every_n_steps=10, num_kept=None)]
    trainer = Trainer(accelerator="cpu", max_steps=10**9, logger=False, callbacks=callbacks)
    module = LightningModule()
    module.weight = torch.nn.Parameter(torch.zeros(10**6))
    with caplog.at_level(logging.WARNING):
        callbacks[0].on_fit_start(trainer, module)
    assert "up to 100000003 checkpoints of 0.0 GB (12,000,000 bytes)" in caplog.messages[-1]
    assert "callbacks.kept.num_kept=N" in caplog.messages[-1]


def test_the_newest_kept_checkpoints_stay_and_none_goes_before_the_next_is_whole(tmp_path):
    kept = KeptCheckpoints(tmp_path, num_kept=2)
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[kept], max_steps=1)
    for step, written in ((1, True), (2, True), (3, False), (4, True)):
        path = tmp_path / f"step_{step:07d}.ckpt"
        trainer.save_checkpoint = lambda path, *_, written=written: (
            written and AtomicCheckpointIO().save_checkpoint(STATE, path)
        )
        kept._save_checkpoint(trainer, str(path))
        expected = {1: [1], 2: [1, 2], 3: [1, 2], 4: [2, 4]}[step]
        assert sorted(int(each.stem[5:]) for each in tmp_path.glob("*.ckpt")) == expected


WRITER = """
import sys, torch
from seesr_pl.training import AtomicCheckpointIO
for step in range(15):
    content = {"w": torch.full((20000,), float(step)), "global_step": step, "optimizer_states": [{}]}
    AtomicCheckpointIO().save_checkpoint(content, sys.argv[1])
"""


@pytest.mark.slow
def test_two_writers_of_one_name_never_leave_a_damaged_file(tmp_path):
    path = tmp_path / "step_1.ckpt"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(2)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        if path.is_file():
            assert torch.load(path, weights_only=True)["w"].unique().numel() == 1
            reads += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert reads > 3
    assert damage(path) == ""
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_file_that_was_there_gets_the_name_to_keep_it_under(tmp_path):
    for text in ("one", "two", "three"):
        write_whole(tmp_path / "a", text, keep=tmp_path / "b")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("three", "two")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"data": {"sources": [{"urls": "/old/*.tar"}]}}, {"data": {"sources": [{"urls": "/new/*.tar"}]}}),
        ({"data": {"num_workers": 0}}, {"data": {"num_workers": 8, "prefetch_factor": 4}}),
        (
            {"module": {"decay_steps": 10}, "trainer": {"max_steps": 10}},
            {"module": {"decay_steps": 20}, "trainer": {"max_steps": 20}},
        ),
    ],
)
def test_what_does_not_change_the_learning_is_accepted(run, before, now):
    run.record(config(run, **before))
    assert launch.checkpoint_to_resume(config(run, **now)) == run.last_checkpoint


def test_a_schedule_that_does_not_follow_the_steps_is_bound(run):
    run.record(config(run, module={"decay_steps": 10}, trainer={"max_steps": 10}))
    with pytest.raises(ValueError, match=r"module\.decay_steps: 10 -> 30"):
        launch.checkpoint_to_resume(config(run, module={"decay_steps": 30}, trainer={"max_steps": 20}))


@pytest.mark.parametrize(
    ("frozen", "precision", "accepted"),
    [
        ("bfloat16", "bf16-mixed", True),
        ("float16", "16-mixed", True),
        ("float32", "16-mixed", True),
        ("bfloat16", "16-mixed", False),
        ("bfloat16", "32-true", False),
        ("float16", "bf16-mixed", False),
    ],
)
def test_frozen_weights_are_stored_in_the_precision_that_computes_with_them(frozen, precision, accepted):
    if accepted:
        return check_precision(getattr(torch, frozen), precision)
    with pytest.raises(ValueError, match=f"frozen_dtype={frozen} does not fit trainer.precision={precision}.*set"):
        check_precision(getattr(torch, frozen), precision)
    return None


def test_a_damaged_file_that_seems_to_be_of_an_earlier_step_is_told_all_the_same(run, capsys):
    path = run.last_checkpoint
    data, step = path.read_bytes(), torch.load(path, weights_only=True)["global_step"]
    place = data.index(b"global_step") + data[data.index(b"global_step") :].index(b"K" + bytes([step]))
    path.write_bytes(data[: place + 1] + b"\x01" + data[place + 2 :])
    assert torch.load(path, weights_only=True)["global_step"] == 1
    assert launch.checkpoint_to_resume(config(run)).name == "previous.ckpt"
    assert f"{path} is damaged" in capsys.readouterr().err
