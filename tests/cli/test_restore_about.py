"""`seesr restore`: tags that were edited, the knob of fidelity, and what a result tells of itself."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from seesr_pl.cli.restore import restore
from seesr_pl.imaging.io import read_about, read_rgb

pytestmark = pytest.mark.whole

app = typer.Typer()
app.command()(restore)


@pytest.fixture
def run(weights, tmp_path):
    """Restore tmp_path/in, which holds a.png and below/b.png, to tmp_path/NAME."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    for seed, name in enumerate(("a", "below/b")):
        levels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / "in" / f"{name}.png")

    def run(name, *arguments):
        options = ["--ckpt", weights, "--steps", 1, "--devices", "cpu", "--process-size", 64, "--upscale", 2]
        words = [tmp_path / "in", "--out", tmp_path / name, *options, *arguments]
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


def record(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_edited_tags_take_the_place_of_those_found(run, tmp_path):
    (tmp_path / "tags" / "below").mkdir(parents=True)
    (tmp_path / "tags" / "below" / "b.txt").write_bytes(b"\xef\xbb\xbfold, stone wall,\n")
    assert run("own").exit_code == 0
    result = run("edited", "--tags", tmp_path / "tags")
    assert "no tags for a.png there" in " ".join(result.output.split())
    own, edited = (tmp_path / name for name in ("own", "edited"))
    assert record(edited / "below" / "b.png")["tags"] == "old, stone wall"
    assert record(edited / "a.png")["tags"] == record(own / "a.png")["tags"]
    assert (read_rgb(edited / "a.png") == read_rgb(own / "a.png")).all()
    assert (read_rgb(edited / "below" / "b.png") != read_rgb(own / "below" / "b.png")).any()
    assert "2 kept" in run("edited", "--tags", tmp_path / "tags").output
    (tmp_path / "tags" / "below" / "b.txt").write_text("grass")
    assert "1 restored, 1 kept" in run("edited", "--tags", tmp_path / "tags").output


def test_one_file_of_tags_is_for_all_images_and_may_be_empty(run, tmp_path):
    (tmp_path / "tags.txt").write_text("")
    run("out", "--tags", tmp_path / "tags.txt")
    assert {record(tmp_path / "out" / name)["tags"] for name in ("a.png", "below/b.png")} == {""}
    result = run("none", "--tags", tmp_path / "nothing")
    assert "does not exist" in str(result.exception)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_result_tells_how_it_was_made_unless_asked_not_to(run, tmp_path, ending):
    run("out", "--format", ending, "--seed", 3)
    about = read_about(tmp_path / "out" / f"a.{ending}")
    told = record(tmp_path / "out" / f"a.{ending}")
    assert about["source"] == "a.png"
    assert {name: about[name] for name in ("seed", "tags", "settings", "weights", "versions")} == {
        name: told[name] for name in ("seed", "tags", "settings", "weights", "versions")
    }
    run("bare", "--format", ending, "--seed", 3, "--no-metadata")
    assert read_about(tmp_path / "bare" / f"a.{ending}") == {}
    assert (read_rgb(tmp_path / "bare" / f"a.{ending}") == read_rgb(tmp_path / "out" / f"a.{ending}")).all()


def test_fidelity_moves_the_settings_and_single_options_have_the_last_word(run, tmp_path):
    run("out", "--fidelity", 1, "--color-fix", "none")
    settings = record(tmp_path / "out" / "a.png")["settings"]
    assert (settings["guidance_scale"], settings["conditioning_scale"]) == (1, pytest.approx(1.2))
    assert settings["color_fix"] == "none"
    assert "from 0 (generative) to 1" in str(run("wrong", "--fidelity", 2).exception)
