"""What a path may look like: it is taken as it was typed, or the error prints what to type."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from typer.testing import CliRunner

from seesr_pl import launch
from seesr_pl.cli import commands
from seesr_pl.config import CONF, ConfigError, composed
from seesr_pl.data.build import build_shards
from seesr_pl.data.catalog import ShardSource
from seesr_pl.data.prepare import BuildOptions
from seesr_pl.files import find_images
from seesr_pl.typed import hydra_value

NAMES = [
    "RealSR(V3)", "module.learning_rate=0.001", "a,b", "a=1,b=2", "sh[1]", "{x}", "with space", " led by one",
    "Fotos \u00e9t\u00e9", "\u65e5\u672c", "it's", 'quo"te', "back\\slash", "a#b;c&d", "100%", "star*", "what?",
    "[a]/b", "tilde~1", "a!b", "<a>", "end\\", "null", "x:y", "@home", "-dash", "$HOME",
]  # fmt: skip


def save(path, size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_reaches_its_key_as_it_was_typed(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    words = ["method=bicubic", "benchmark=folder", f"benchmark.root={tmp_path / name}"]
    assert composed("evaluate", launch.overrides(words, CONF, "evaluate")).benchmark.root == str(tmp_path / name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("null", "a,b", "{x}", "[a]/b", " led by one")])
def test_a_folder_that_is_not_there_yet_may_have_any_name_too(name):
    cfg = composed(
        "evaluate",
        launch.overrides(
            ["method=bicubic", "benchmark=folder", "benchmark.root=r", f"paths.outputs={name}"], CONF, "evaluate"
        ),
    )
    assert cfg.paths.outputs == name


def test_what_is_no_path_is_left_to_hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("1").touch()
    Path("true").touch()
    for value in ("1", "1e-3", "true", "null", "[a,b]", "{a:1}", "a,b", "'q'", "${seed}", "range(3)", ""):
        assert hydra_value("key", value) == value


def test_a_list_of_folders_may_hold_any_names(tmp_path):
    for name in ("a=1", "b(2)"):
        (tmp_path / name).mkdir()
    words = ["method=bicubic", "benchmark=folder", "benchmark.root=r", f"compare=[{tmp_path}/a=1,{tmp_path}/b(2)]"]
    cfg = composed("evaluate", launch.overrides(words, CONF, "evaluate"))
    assert list(cfg.compare) == [f"{tmp_path}/a=1", f"{tmp_path}/b(2)"]


def test_what_cannot_be_read_is_told_in_the_form_to_type():
    with pytest.raises(ConfigError) as error:
        launch.overrides(["metrics=[psnr_y"], CONF, "evaluate")
    fix = str(error.value).rpartition("type ")[2]
    typed = subprocess.run(["bash", "-c", f"printf %s {fix}"], capture_output=True, text=True, check=True).stdout
    assert typed == "metrics='[psnr_y'"
    assert launch.overrides([typed], CONF, "evaluate") == [typed]


@pytest.mark.whole
def test_the_home_folder_is_meant_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hydra_value("paths.outputs", "~/runs (1)") == f"'{tmp_path}/runs (1)'"
    save(tmp_path / "in" / "a.png")
    command = [Path(sys.executable).with_name("seesr"), "shards", "build", "~/in", "~/out"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "out" / "out-000000.tar").is_file()


def test_a_pattern_below_a_folder_with_brackets_finds_its_files(tmp_path):
    save(tmp_path / "set[1]" / "a.png")
    save(tmp_path / "set1" / "b.png")
    assert [image.path.name for image in find_images(f"{tmp_path}/set[1]/*.png").images] == ["a.png"]
    assert [image.path.name for image in find_images(f"{tmp_path}/set[12]/*.png").images] == ["b.png"]


@pytest.mark.parametrize("name", ["sh[1]", "a{b,c}", "x*", "out.tar", "RealSR(V3)", "a=1,b=2", "\u65e5 \u672c"])
def test_shards_in_a_folder_of_any_name_are_built_twice_found_and_verified(tmp_path, name):
    save(tmp_path / "in" / "a.png")
    out = tmp_path / name
    for _ in range(2):
        assert build_shards([tmp_path / "in"], out, options=BuildOptions())["samples"] == 1
    shard = str(out / f"{name}-000000.tar")
    for urls in (shard, f"{out}/*.tar", f"{out}/*-{{000000..000000}}.tar"):
        assert ShardSource(urls).shard_urls() == [shard]
        assert ShardSource.missing_files(urls) == []
    assert CliRunner().invoke(commands, ["shards", "verify", shard]).exit_code == 0


def tar_of(path: Path) -> bytes:
    with tarfile.open(path, "w") as tar:
        info, data = tarfile.TarInfo("a.txt"), b"mine"
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def test_a_folder_that_no_build_made_is_refused_and_keeps_its_files(tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "coco").mkdir()
    before = {
        name: tar_of(tmp_path / "coco" / name) for name in ("coco-000000.tar", "coco-000001.tar", "coco2-val.tar")
    }
    with pytest.raises(ValueError, match=r"coco-000000\.tar, coco-000001\.tar, coco2-val\.tar, and no build\.jsonl"):
        build_shards([tmp_path / "in"], tmp_path / "coco", options=BuildOptions())
    assert {path.name: path.read_bytes() for path in (tmp_path / "coco").iterdir()} == before


@pytest.mark.parametrize("name", ["coco-000001.tar", "coco-000007.tar", "coco-val.tar", "other.tar", "notes.txt"])
def test_what_is_put_beside_the_shards_of_a_build_is_left_alone(tmp_path, name):
    save(tmp_path / "in" / "a.png")
    build_shards([tmp_path / "in"], tmp_path / "coco", options=BuildOptions())
    before = tar_of(tmp_path / "coco" / name)
    build_shards([tmp_path / "in"], tmp_path / "coco", options=BuildOptions())
    assert (tmp_path / "coco" / name).read_bytes() == before


def test_a_build_that_goes_on_refuses_later_shards_of_another_origin(tmp_path):
    save(tmp_path / "in" / "a.png")
    build_shards([tmp_path / "in"], tmp_path / "coco", options=BuildOptions())
    journal = tmp_path / "coco" / "build.jsonl"
    journal.write_text(
        "".join(journal.read_text().splitlines(keepends=True)[:1])
    )  # killed before the first shard was done
    before = tar_of(tmp_path / "coco" / "coco-000003.tar")
    with pytest.raises(ValueError, match=r"coco-000003\.tar is of another origin"):
        build_shards([tmp_path / "in"], tmp_path / "coco", options=BuildOptions())
    assert (tmp_path / "coco" / "coco-000003.tar").read_bytes() == before


def test_the_folder_for_shards_cannot_be_a_file(tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "out.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"out\.tar is a file, not a folder"):
        build_shards([tmp_path / "in"], tmp_path / "out.tar", options=BuildOptions())
    assert (tmp_path / "out.tar").read_bytes() == b"mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RealSR(V3)", "e=1,f=2", "\u65e5[1] x"])
def test_evaluate_takes_a_benchmark_and_results_of_any_name(tmp_path, name):
    for folder, size in (("lq", (16, 16)), ("hq", (64, 64))):
        save(tmp_path / name / folder / "a.png", size)
    command = [sys.executable, ROOT / "evaluate.py", "method=bicubic", "benchmark=folder", f"benchmark.root={name}"]
    words = [f"paths.outputs=out {name}", "stages=[restore,score]"]
    done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"out {name}" / "bicubic_folder" / "scores.csv").is_file()
