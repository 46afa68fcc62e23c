"""`seesr doctor` names what is missing or broken, and the fix."""

import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from seesr_pl.cli import commands
from seesr_pl.data import ShardWriter

pytestmark = pytest.mark.whole


def doctor(folder, *words):
    return CliRunner().invoke(commands, ["doctor", "--weights", str(folder), *words], env={"COLUMNS": "400"})


def line(result, name):
    return next(line for line in result.output.splitlines() if name in line)


def test_weights_that_are_not_there_are_named_with_their_origin_and_break_nothing(tmp_path):
    result = doctor(tmp_path)
    assert result.exit_code == 0
    assert f"{tmp_path}/DAPE.pth" in result.output
    assert "stabilityai/sd-turbo on Hugging Face" in result.output


def test_a_file_that_is_other_than_published_is_broken(tmp_path):
    (tmp_path / "ram_swin_large_14m.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    result = doctor(tmp_path)
    assert result.exit_code == 1
    assert "broken: 42 bytes, published with 5,625,634,877" in result.output


def test_the_command_that_installs_an_extra_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'seesr-pl[demo]'" in doctor(tmp_path).output


def test_an_experiment_is_examined_before_its_weights_and_shards_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctor(tmp_path, "experiment=dape", "trainer.devices=8")
    assert result.exit_code == 1
    assert "seesr shards build SOURCE shards/coco" in line(result, "shards/coco/*.tar")
    assert "seesr weights" in line(result, "weights/ram_swin_large_14m.pth")
    assert "622,592 of" in line(result, "parameters")
    assert "32 images = 8 devices x 1 micro batch of 4" in line(result, "a step")
    assert "GiB" in line(result, "memory of a device")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_cannot_be_cut_is_red_with_its_fix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = line(doctor(tmp_path, "experiment=dape", "trainer.devices=5"), "devices=5")
    assert "broken: global_batch_size=32 must be a positive multiple of devices=5" in found
    assert "change data.global_batch_size or trainer.devices" in found


def test_every_red_line_has_a_fix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row.split("\u2502") for row in doctor(tmp_path, "experiment=dape").output.splitlines() if "broken" in row]
    assert rows
    assert all(row[3].strip() for row in rows)


def test_shards_are_counted_and_their_reading_and_the_pipeline_are_measured(tmp_path):
    with ShardWriter(tmp_path / "shards") as writer:
        for number in range(3):
            image = np.random.default_rng(number).integers(0, 256, (128, 128, 3), dtype=np.uint8)
            writer.write(f"{number}", cv2.imencode(".png", image)[1].tobytes(), extension="png")
    source = f"{{_target_: seesr_pl.data.ShardSource, name: mine, urls: {tmp_path}/shards/*.tar}}"
    words = [f"data.sources=[{source}]", "data.validation_sources=[]", "data.crop_size=64"]
    result = doctor(tmp_path, "experiment=tiny_seesr", *words)
    assert result.exit_code == 0
    assert "3 samples in 1 shards, read at" in line(result, "mine")
    assert "images/s a core" in line(result, "input pipeline")


def test_a_narrow_terminal_cuts_nothing_off(tmp_path):
    result = CliRunner().invoke(commands, ["doctor", "--weights", str(tmp_path)], env={"COLUMNS": "80"})
    assert "\u2026" not in result.output


def test_a_word_that_is_no_override_is_told_in_one_message():
    result = doctor("weights", "tiny_dape")
    assert isinstance(result.exception, ValueError)
    assert "'tiny_dape' is no KEY=VALUE; did you mean experiment=tiny_dape" in str(result.exception)
