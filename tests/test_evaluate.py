"""evaluate.py from a folder of images to its outputs, and the mistakes that it answers."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from stacks import small_stack

from seesr_pl import config, runs, typed
from seesr_pl.data import ShardWriter
from seesr_pl.evaluation import FolderBenchmark
from seesr_pl.evaluation.benchmark import pixel_digest
from seesr_pl.evaluation.options import evaluation_name
from seesr_pl.imaging.io import read_rgb, write_image

ROOT = Path(__file__).resolve().parents[1]
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
BENCHMARKS = sorted(path.stem for path in (ROOT / "conf" / "benchmark").glob("*.yaml"))
# What only the user knows, by method.
FILES = {
    **{name: ["method.dir=."] for name in ("images", "osediff", "dasr", "stablesr", "resshift", "pasd", "diffbir")},
    **{name: ["method.weights=net.pth"] for name in ("rrdbnet", "ldl")},
}


@pytest.fixture(scope="module")
def evaluate() -> ModuleType:
    specification = importlib.util.spec_from_file_location("evaluate", ROOT / "evaluate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark folder of two images of 64x64."""
    for seed in range(2):
        noise = np.random.default_rng(seed).uniform(0, 255, (64, 64, 3)).astype(np.float32)
        hq = np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 4 - 380, 0, 255).astype(np.uint8)
        for name, image in (("hq", hq), ("lq", cv2.resize(hq, (16, 16), interpolation=cv2.INTER_AREA))):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "set" / name / f"{seed}.png", image)
    return tmp_path / "set"


def _compose(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("evaluate", overrides=list(overrides))


def _bicubic(folder: Path, *overrides: str) -> DictConfig:
    paths = (f"benchmark.root={folder}", f"paths.outputs={folder.parent}/outputs")
    return _compose("method=bicubic", "benchmark=folder", *paths, *overrides)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_its_constructor(evaluate, tmp_path, method):
    needed = [f"ckpt={tmp_path}"] if method == "seesr" else []
    files = [f"benchmark.root={tmp_path}", *needed, *FILES.get(method, [])]
    cfg = _compose(f"method={method}", "benchmark=folder", *files)
    evaluate.check(cfg)
    assert cfg.run_name == f"{tmp_path.name if needed else cfg.method.name}_folder"


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_benchmark_fits_its_constructor(evaluate, tmp_path, benchmark):
    needed = [f"ckpt={tmp_path}"] if benchmark == "validation" else []
    keys = {"div2k_made": ["images"], "coco": ["images", "instances", "panoptic"]}.get(benchmark, [])
    files = [f"benchmark.{key}={tmp_path}" for key in keys]
    cfg = _compose("method=bicubic", f"benchmark={benchmark}", f"benchmark.root={tmp_path}", *needed, *files)
    evaluate.check(cfg)
    config.preflight(cfg)
    assert cfg.run_name == "_".join(["bicubic", *([tmp_path.name] if needed else []), benchmark])


def test_an_evaluation_leaves_images_scores_summary_and_report(evaluate, folder):
    evaluate.evaluate_restoration(_bicubic(folder))
    output = folder.parent / "outputs" / "bicubic_folder"
    assert sorted(path.name for path in (output / "restored").glob("*.png")) == ["0.png", "1.png"]
    assert (output / "scores.csv").read_text().startswith("image,psnr_y,ssim_y\n0,")
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["metrics"]) == ["psnr_y", "ssim_y"]
    assert list(summary["metrics"]["psnr_y"]) == ["mean", "ci95", "n"]
    assert "<title>bicubic on folder</title>" in (output / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["python", "evaluate.py", "ckpt=a b"], "python evaluate.py 'ckpt=a b'"),
        (["/v/bin/python3.11", "-u", "/r/evaluate.py", "method=nlm"], "python evaluate.py method=nlm"),
        (["/v/bin/python", "/v/bin/seesr-evaluate", "method=nlm"], "seesr-evaluate method=nlm"),
    ],
)
def test_the_command_of_a_report_is_the_one_that_was_typed(words, command):
    assert typed.command(words) == command


def test_an_evaluation_can_be_compared_with_a_finished_one(evaluate, folder):
    evaluate.evaluate_restoration(_bicubic(folder))
    compare = f"compare=[{folder.parent}/outputs/bicubic_folder]"
    evaluate.evaluate_restoration(_bicubic(folder, "method=gaussian_blur", compare))
    page = (folder.parent / "outputs" / "gaussian_blur_folder" / "report.html").read_text()
    assert re.search(r'<th>psnr_y</th><td class="text">bicubic</td>', page)


def test_without_the_stage_restore_missing_images_are_an_error(evaluate, folder):
    with pytest.raises(ValueError, match=r"stages=\['score'\] leaves out restore"):
        evaluate.evaluate_restoration(_bicubic(folder, "stages=[score]"))


def test_images_of_another_program_are_taken_again_when_they_change(evaluate, folder):
    theirs = folder.parent / "theirs"
    shutil.copytree(folder / "hq", theirs)
    cfg = _bicubic(folder, "method=images", f"++method.dir={theirs}", "stages=[restore,score]")
    means = []
    for _ in range(2):
        evaluate.evaluate_restoration(cfg)
        summary = json.loads((folder.parent / "outputs" / "images_folder" / "summary.json").read_text())
        means.append(summary["metrics"]["ssim_y"]["mean"])
        write_image(theirs / "0.png", np.zeros((64, 64, 3), np.uint8))
    assert means[0] == 1
    assert means[1] < 0.6
    assert summary["settings"]["method"]["dir"] == str(theirs)


def test_what_a_method_cannot_vary_is_said_and_stored_results_vary_by_their_folders(evaluate, folder):
    evaluate.evaluate_restoration(_bicubic(folder, "seeds=3", "counterfactual=cat", "stages=[restore,score]"))
    outputs = folder.parent / "outputs"
    skipped = json.loads((outputs / "bicubic_folder" / "summary.json").read_text())["skipped"]
    assert skipped["seed_spread"] == "method=bicubic draws nothing at random"
    assert skipped["tag_effect"] == "method=bicubic takes no tags"
    stored = [f"++method.dir={outputs}/bicubic_folder/restored", f"seeds=[{folder}/hq]"]
    evaluate.evaluate_restoration(_bicubic(folder, "method=images", *stored, "stages=[restore,score]"))
    spread = json.loads((outputs / "images_folder" / "summary.json").read_text())["metrics"]["seed_spread"]
    assert spread["n"] == 2
    assert spread["mean"] > 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeds=0"], "seeds = 0: "),
        (["seeds=[/nowhere]"], "seeds = /nowhere: is no folder of images"),
        (["tagger=/nowhere"], "tagger = /nowhere: does not exist"),
        (["task=tag"], "task = 'tag': expected one of 'auto', 'restoration', 'tags', 'semantics', 'make_benchmark'"),
        (["stages=[restroe]"], "stages = ['restroe']: expected one of 'restore', 'score', 'report'"),
        (["method=seesr"], "ckpt = null: give a run folder"),
        (["ckpt=/nowhere"], "ckpt = /nowhere: does not exist"),
        (["+benchmark.count=many"], "benchmark.count = 'many': expected int"),
        (["+benchmark.cuont=3"], "benchmark.cuont: unknown key; did you mean benchmark.count?"),
        (["+metric=[psnr_y]"], "metric: unknown key; did you mean metrics?"),
    ],
)
def test_a_mistake_names_its_key_and_the_fix(evaluate, folder, overrides, message):
    with pytest.raises(config.ConfigError) as error:
        evaluate.check(_bicubic(folder, *overrides))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger=csv"], "logged to W&B alone: logger=wandb"),
        (["stages=[restore]", "logger=wandb"], r"nothing is scored with stages=\['restore'\]; add score"),
        (["stages=report", "logger=wandb", "task=semantics"], r"nothing is scored with stages=\['report'\]"),
        (["task=tags", "ckpt=[.,..]", "logger=wandb"], "give one ckpt; several DAPEs have a summary each"),
    ],
)
def test_what_would_leave_nothing_or_several_things_to_log_is_refused(evaluate, folder, overrides, message):
    with pytest.raises(config.ConfigError, match=message):
        evaluate.check(_bicubic(folder, *overrides))


def test_the_command_of_an_evaluation_of_tags_is_the_one_that_was_typed(evaluate, folder, monkeypatch):
    ckpt = folder.parent / "pipeline"
    small_stack().ram.save_pretrained(ckpt / "ram")
    (ckpt / "model_index.json").touch()
    monkeypatch.setattr(sys, "orig_argv", ["python", "/bin/seesr-evaluate", "task=tags"])
    evaluate.evaluate_tags(_bicubic(folder, "task=tags", f"ckpt={ckpt}", "device=cpu"))
    page = (folder.parent / "outputs" / "bicubic_pipeline_folder" / "report.html").read_text()
    assert "seesr-evaluate task=tags" in page


def test_an_evaluation_of_tags_is_logged_without_scores(evaluate, folder):
    evaluate.check(_bicubic(folder, "task=tags", "ckpt=.", "stages=[restore]", "logger=wandb"))


@pytest.mark.parametrize("task", ["semantics", "make_benchmark"])
def test_a_task_that_the_set_does_not_fit_is_refused(evaluate, folder, task):
    with pytest.raises(ValueError, match=r"benchmark=(coco|folder)"):
        evaluate.TASKS[task](_bicubic(folder, f"task={task}"))


def test_a_metric_that_is_not_available_fails_only_if_strict(evaluate, folder):
    cfg = _bicubic(folder, "metrics=[psnr_y,niqe]", "stages=[restore,score]")
    evaluate.evaluate_restoration(cfg)
    summary = json.loads((folder.parent / "outputs" / "bicubic_folder" / "summary.json").read_text())
    assert "niqe_parameters=PATH" in summary["skipped"]["niqe"]
    cfg.strict = True
    with pytest.raises(ValueError, match="metric niqe: needs its parameter file"):
        evaluate.evaluate_restoration(cfg)


@pytest.mark.whole
@pytest.mark.parametrize("wanted", ["help", "scores"])
def test_no_network_library_is_imported_where_no_network_restores(folder, wanted):
    arguments = [
        "method=bicubic",
        "benchmark=folder",
        f"benchmark.root={folder}",
        f"paths.outputs={folder.parent}/out",
        "stages=[restore,score]",
    ]
    command = [sys.executable, "-X", "importtime", str(ROOT / "evaluate.py"), *arguments]
    run = subprocess.run([*command, *(["--help"] if wanted == "help" else [])], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert ("python evaluate.py ckpt=RUN" if wanted == "help" else "summary.json") in run.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"transformers", "peft", "diffusers", "torchmetrics", "lightning", "matplotlib"}


@pytest.mark.slow
def test_published_numbers_of_realsr_are_met(evaluate, benchmarks, tmp_path):
    root = benchmarks / "realsr"
    paths = ["benchmark=realsr", f"benchmark.root={root}", f"paths.outputs={tmp_path}"]
    evaluate.evaluate_restoration(_compose("method=images", f"method.dir={root}/results_osediff", *paths))
    evaluate.evaluate_restoration(_compose("method=bicubic", *paths))
    found = {}
    for name in ("images", "bicubic"):
        summary = json.loads((tmp_path / f"{name}_realsr" / "summary.json").read_text())
        assert summary["published_pixels"] is True
        found[name] = [summary["metrics"][metric]["mean"] for metric in ("psnr_y", "ssim_y")]
    assert [round(value, 4) for value in found["images"]] == [25.1511, 0.7341]
    assert [round(found["bicubic"][0], 2), round(found["bicubic"][1], 4)] == [27.15, 0.7577]


@pytest.fixture(scope="module")
def tiny_runs(tmp_path_factory) -> Path:
    """The outputs of a run of each stage, two steps long."""
    folder = tmp_path_factory.mktemp("runs")
    for experiment in ("tiny_dape", "tiny_seesr"):
        _run(folder, "train.py", f"experiment={experiment}", "trainer.max_steps=2", "trainer.val_check_interval=null")
    return folder / "outputs"


def _run(folder: Path, *command: str) -> str:
    paths = [f"paths.outputs={folder}/outputs", f"paths.shards={folder}/shards"]
    finished = subprocess.run(
        [sys.executable, *command[:1], *paths, *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


@pytest.mark.slow
def test_a_run_is_judged_on_its_own_validation_samples_by_what_it_learned(tiny_runs):
    said = _run(tiny_runs.parent, "evaluate.py", f"ckpt={tiny_runs}/tiny_dape", "benchmark.max_images=4")
    assert "benchmark=realsr" in said
    assert (tiny_runs / "tiny_dape_validation" / "tags.csv").is_file()
    _run(tiny_runs.parent, "evaluate.py", f"ckpt={tiny_runs}/tiny_seesr", "benchmark.max_images=4")
    summary = json.loads((tiny_runs / "tiny_seesr_validation" / "summary.json").read_text())
    assert summary["metrics"]["psnr_y"]["n"] == 4
    assert "bicubic" in (tiny_runs / "tiny_seesr_validation" / "table.md").read_text()
    same = [tiny_runs / f"{name}_validation" / "validation" / "lq" for name in ("tiny_dape", "tiny_seesr")]
    assert [path.name for path in sorted(same[0].iterdir())] == [path.name for path in sorted(same[1].iterdir())]


@pytest.mark.slow
def test_several_checkpoints_are_compared_image_by_image_in_one_table(tiny_runs):
    ckpts = f"ckpt=[{tiny_runs}/tiny_seesr,{tiny_runs}/tiny_seesr/checkpoints/last.ckpt]"
    _run(tiny_runs.parent, "evaluate.py", ckpts, "benchmark.max_images=2")
    table = (tiny_runs / "tiny_seesr+tiny_seesr_last_validation" / "table.md").read_text()
    assert [name in table for name in ("tiny_seesr ", "tiny_seesr_last ", "bicubic ")] == [True] * 3


@pytest.mark.parametrize(
    ("ckpt", "method", "name"),
    [
        (None, "bicubic", "bicubic_realsr"),
        ("outputs/a", "seesr", "a_realsr"),
        ("outputs/a/checkpoints/step_0000010.ckpt", "seesr", "a_step_0000010_realsr"),
        (["outputs/a", "outputs/b"], "seesr", "a+b_realsr"),
        ("outputs/a", "nlm", "nlm_a_realsr"),
    ],
)
def test_an_evaluation_is_named_after_what_it_judges(ckpt, method, name):
    assert evaluation_name(ckpt, method, "realsr") == name


def test_the_validation_samples_of_a_run_are_written_once_and_the_same_for_equal_data(tmp_path):
    hq = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    with ShardWriter(tmp_path / "shards") as writer:
        for index, image in enumerate(hq):
            writer.write(f"{index}", cv2.imencode(".png", image)[1].tobytes(), extension="png")
    source = f"{{_target_: seesr_pl.data.ShardSource, urls: {tmp_path}/shards/*.tar}}"

    def record(name: str, crop_size: int) -> Path:
        sources = (f"data.{name}=[{source}]" for name in ("sources", "validation_sources"))
        cfg = _train_config("experiment=dape", *sources, f"++data.crop_size={crop_size}")
        runs.RunFolder(tmp_path / name).record(cfg)
        return tmp_path / name

    for name in ("a", "b"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
        assert runs.write_validation(record(name, 64), tmp_path / name / "pairs") == 3
    first, second = (FolderBenchmark(str(tmp_path / name / "pairs")).pairs() for name in ("a", "b"))
    assert pixel_digest(first) == pixel_digest(second)
    before = first[0].lq.stat().st_mtime_ns
    runs.write_validation(tmp_path / "a", tmp_path / "a" / "pairs")
    assert first[0].lq.stat().st_mtime_ns == before
    runs.write_validation(record("a", 96), tmp_path / "a" / "pairs")
    assert read_rgb(first[0].hq).shape == (96, 96, 3)
    first[0].hq.unlink()
    write_image(first[0].hq.with_name("of_other_data.png"), hq[0])
    assert runs.write_validation(record("a", 64), tmp_path / "a" / "pairs") == 3
    assert pixel_digest(FolderBenchmark(str(tmp_path / "a" / "pairs")).pairs()) == pixel_digest(second)
    second[0].lq.unlink()
    runs.write_validation(tmp_path / "b", tmp_path / "b" / "pairs")
    assert second[0].lq.is_file()
    (tmp_path / "own" / "lq").mkdir(parents=True)
    write_image(tmp_path / "own" / "lq" / "photo.png", hq[0])
    with pytest.raises(ValueError, match="own holds images of another program"):
        runs.write_validation(tmp_path / "a", tmp_path / "own")
    assert (tmp_path / "own" / "lq" / "photo.png").is_file()


def test_a_run_without_validation_sources_asks_for_a_benchmark(tmp_path):
    (tmp_path / "model_index.json").touch()
    with pytest.raises(ValueError, match="has no validation sources; name a set: benchmark=realsr"):
        runs.write_validation(tmp_path, tmp_path / "pairs")


def _train_config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.slow
def test_an_image_that_cannot_be_restored_ends_the_command_with_a_code_and_all_else_done(folder):
    path = folder / "lq" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    words = ["method=bicubic,nlm", "benchmark=folder", f"benchmark.root={folder}", "benchmark.hq=null"]
    words += ["metrics=[niqe]", f"paths.outputs={folder.parent}/outputs", "stages=[restore,score]"]
    for given in (["method=bicubic", *words[1:]], ["-m", *words]):
        command = [sys.executable, ROOT / "evaluate.py", *given]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder.parent)
        assert ended.returncode == 1
        assert "not restored 1: " in ended.stdout
        assert "-m" in given or "Traceback" not in ended.stderr
    assert (folder.parent / "outputs" / "nlm_folder" / "restored" / "0.png").is_file()
