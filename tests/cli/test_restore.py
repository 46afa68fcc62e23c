"""`seesr restore` on the small stack."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
from typer.testing import CliRunner

from seesr_pl.cli.restore import restore
from seesr_pl.imaging.io import read_decoded, read_rgb
from seesr_pl.jobs import restore as files

pytestmark = pytest.mark.whole

app = typer.Typer()
app.command()(restore)


@pytest.fixture
def run(weights):
    def run(*arguments: object):
        options = ["--ckpt", weights, "--steps", 1, "--guidance", 1, "--devices", "cpu", "--process-size", 64]
        return CliRunner().invoke(app, [str(word) for word in (*options, *arguments)])

    return run


def save(path, size=(20, 16), seed=0, **options):
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path, **options)


def test_files_folders_and_patterns_are_restored_beside_a_record(run, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "deep" / "b.jpg", seed=1)
    save(tmp_path / "c1.png", seed=2)
    save(tmp_path / "d.png", seed=3)
    result = run(tmp_path / "in", tmp_path / "c*.png", tmp_path / "d.png", "--out", tmp_path / "out", "--upscale", 2)
    assert result.exit_code == 0, result.output
    for name in ("a", "deep/b", "c1", "d"):
        assert read_rgb(tmp_path / "out" / f"{name}.png").shape == (32, 40, 3)
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert record["seed"] == 0
        assert record["settings"]["upscale"] == 2
        assert set(record["weights"]) == {"vae", "text_encoder", "unet", "controlnet", "ram"}
        assert "torch" in record["versions"]
        assert isinstance(record["tags"], str)


def test_results_of_the_same_settings_are_kept_and_others_made_anew(run, tmp_path):
    save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--out", tmp_path / "out")
    assert "1 restored" in run(*arguments).output
    assert "1 kept" in run(*arguments).output
    assert "1 restored" in run(*arguments, "--overwrite").output
    assert "1 restored" in run(*arguments, "--seed", 1).output
    save(tmp_path / "a.png", seed=5)
    assert "1 restored" in run(*arguments, "--seed", 1).output


def test_a_result_is_not_kept_for_the_record_of_another_format(run, tmp_path):
    save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--out", tmp_path / "out")
    run(*arguments)
    run(*arguments, "--seed", 1, "--format", "jpg")
    assert "1 restored" in run(*arguments, "--seed", 1).output


def test_results_below_the_input_folder_are_no_inputs(run, tmp_path):
    save(tmp_path / "a.png")
    arguments = (tmp_path, "--out", tmp_path / "restored")
    assert "1 restored, 0 kept" in run(*arguments).output
    assert "0 restored, 1 kept" in run(*arguments).output


def test_transparency_becomes_white_where_the_format_has_none(run, tmp_path):
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(tmp_path / "a.png")
    run(tmp_path / "a.png", "--out", tmp_path / "out", "--format", "jpg")
    assert read_rgb(tmp_path / "out" / "a.jpg").min() > 250


def test_samples_differ_and_repeat(run, tmp_path):
    save(tmp_path / "a.png")
    for out in ("one", "two"):
        run(tmp_path / "a.png", "--out", tmp_path / out, "--samples", 2)
    first, second = (read_rgb(tmp_path / "one" / f"a_{sample:02d}.png") for sample in (0, 1))
    assert (first != second).any()
    np.testing.assert_array_equal(read_rgb(tmp_path / "two" / "a_01.png"), second)


def test_a_classifier_may_say_what_the_picture_shows(run, tmp_path):
    config = ViTConfig(image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.id2label = {0: "tench, Tinca tinca"}
    ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "model")
    save(tmp_path / "a.png")
    words = ("--prompter", "classification", "--prompter-model", tmp_path / "model")
    result = run(tmp_path / "a.png", "--out", tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "a.json").read_text())["tags"] == "tench"


def test_transparency_and_profile_are_kept(run, tmp_path):
    levels = np.zeros((16, 16, 4), np.uint8)
    levels[:8, :, 3] = 255
    Image.fromarray(levels).save(tmp_path / "a.png", icc_profile=b"profile")
    run(tmp_path / "a.png", "--out", tmp_path / "out", "--format", "webp")
    picture = read_decoded(tmp_path / "out" / "a.webp")
    assert picture.icc_profile == b"profile"
    assert picture.alpha.shape == (64, 64)
    assert picture.alpha[0, 0] == 255
    assert picture.alpha[-1, 0] == 0


def test_orientation_is_applied(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.jpg", (20, 16), exif=exif)
    run(tmp_path / "a.jpg", "--out", tmp_path / "out")
    assert read_rgb(tmp_path / "out" / "a.png").shape == (80, 64, 3)


def test_broken_inputs_are_told_and_skipped_and_the_rest_is_done(run, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    save(tmp_path / "whole.jpg", (64, 64))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    save(tmp_path / "sliver.png", (89000, 1))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "dot.png", (1, 1))
    Image.new("CMYK", (16, 16)).save(tmp_path / "ink.jpg")
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(tmp_path / "deep.png")
    result = run(*sorted(tmp_path.glob("*.*")), "--out", tmp_path / "out", "--upscale", 2)
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    for words in (
        "text.png is not an image",
        "cut.jpg is damaged",
        "89000x1 pixels need",
        "moving.gif is an animation",
    ):
        assert words in output, result.output
    assert "4 restored, 0 kept, 4 failed" in output
    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == ["deep.png", "dot.png", "ink.png", "whole.png"]


def test_an_empty_folder_is_an_error(run, tmp_path):
    (tmp_path / "in").mkdir()
    result = run(tmp_path / "in", "--out", tmp_path / "out")
    assert "holds no image" in str(result.exception)


def test_an_output_folder_that_is_a_file_is_an_error(run, tmp_path):
    save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", "--out", tmp_path / "a.png")
    assert "cannot be a folder" in str(result.exception)


def test_two_pictures_of_one_name_are_refused(run, tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "a.jpg")
    result = run(tmp_path, "--out", tmp_path / "out")
    assert "would both be written" in str(result.exception)


def test_a_result_never_replaces_its_input(run, tmp_path):
    save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", "--out", tmp_path)
    assert "overwritten by its own result" in str(result.exception)


def test_without_weights_the_options_are_named(tmp_path):
    save(tmp_path / "a.png")
    result = CliRunner().invoke(app, [str(tmp_path / "a.png"), "--out", str(tmp_path / "out")])
    assert "--ckpt" in str(result.exception)


def test_a_full_disk_stops_the_run_and_leaves_whole_files(run, tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", seed=1)
    written = []

    def full(path, picture):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, picture)

    write = files.write_decoded
    monkeypatch.setattr(files, "write_decoded", full)
    result = run(tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    assert "1 restored, 0 kept, 0 failed, all of them complete" in str(result.exception)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.png"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 KB; skips where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_holds_whole_results_and_says_so(run, tmp_path, small_disk):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", (40, 32), seed=seed)
    result = run(tmp_path / "*.png", "--out", small_disk, "--upscale", 4)
    assert "No space left on device" in str(result.exception)
    assert "1 restored, 0 kept, 0 failed, all of them complete" in str(result.exception)
    left = sorted(path.name for path in small_disk.iterdir())
    assert left == ["0.json", "0.png"]
    assert read_rgb(small_disk / "0.png").shape == (128, 160, 3)


@pytest.mark.slow
def test_two_devices_give_what_one_gives(weights, tmp_path):
    for seed in range(3):
        save(tmp_path / f"{seed}.png", seed=seed)
    command = [Path(sys.executable).with_name("seesr"), "restore", tmp_path / "*.png", "--ckpt", weights]
    command += ["--steps", 1, "--guidance", 1, "--process-size", 64]
    for out, devices in (("one", "cpu"), ("two", "cpu,cpu")):
        arguments = [*command, "--out", tmp_path / out, "--devices", devices]
        subprocess.run([str(word) for word in arguments], check=True)
    for seed in range(3):
        names = [tmp_path / out / f"{seed}.png" for out in ("one", "two")]
        assert names[0].read_bytes() == names[1].read_bytes()
