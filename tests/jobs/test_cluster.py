"""Commands on a Dask cluster and in submitit's jobs write what they write on one device, whatever dies meanwhile."""

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from typer.testing import CliRunner

from seesr_pl.cli import commands
from seesr_pl.imaging.io import write_image
from seesr_pl.jobs import cluster, pool
from seesr_pl.jobs import tag as tagging

ROOT = Path(__file__).resolve().parents[2]
NUM_IMAGES = 6
SUBMITIT = "slurm:cluster=local:jobs=2"
needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra [dask]")
needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="needs the extra [slurm]")
places = pytest.mark.parametrize(
    "place", [pytest.param("dask", marks=needs_dask), pytest.param("submitit", marks=needs_submitit)]
)
COMMANDS = {
    "restore": "restore {images} --out {out} --ckpt {ckpt} --steps 1 --guidance 1 --process-size 64",
    "tag": "tag {images} --out {out} --ckpt {ckpt}",
    "build": "shards build {images} {out} --tile 20 --shard-size 7",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A benchmark of six images of different content, two of them of another size."""
    root, draw = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        height = 20 if index % 3 else 24
        for name, scale in (("lq", 1), ("hq", 4)):
            (root / name).mkdir(exist_ok=True)
            levels = draw.integers(0, 256, (height * scale, 28 * scale, 3), dtype=np.uint8)
            write_image(root / name / f"{index}.png", levels)
    return root


@pytest.fixture(autouse=True)
def one_file_a_job(monkeypatch):
    monkeypatch.setattr(tagging, "FILES_PER_JOB", 1)


@pytest.fixture(scope="module")
def local(images, weights, tmp_path_factory):
    """What each command leaves on one device, and its scores."""
    folder = tmp_path_factory.mktemp("local")
    for name in COMMANDS:
        _run(name, images, weights, folder / name / "out")
    _evaluate(images, weights, folder / "evaluation")
    return folder


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A Dask cluster of two worker processes: its address, and a function that kills one of them."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path_factory.mktemp("d"))}
    with LocalCluster(n_workers=2, **options) as started, Client(started) as client:

        def kill():
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        yield started.scheduler_address.replace("tcp://", "dask://"), kill


@pytest.mark.slow
@places
@pytest.mark.parametrize("name", COMMANDS)
def test_other_machines_write_what_one_device_writes(request, name, place, images, weights, local, tmp_path):
    on = SUBMITIT if place == "submitit" else request.getfixturevalue("dask")[0]
    out = tmp_path / name / "out"
    assert "ETA" in _run(name, images, weights, out, "--on", on)
    assert _content(out) == _content(local / name / "out")
    _run(name, images, weights, out, "--on", on)
    assert _content(out) == _content(local / name / "out")
    assert not (out / ".slurm").exists()


@pytest.mark.slow
@needs_dask
@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_that_is_killed_in_the_middle_costs_nothing(name, images, weights, local, dask, tmp_path):
    address, kill = dask
    out = tmp_path / name / "out"
    killer = threading.Thread(target=lambda: _when_any(out, kill))
    killer.start()
    _run(name, images, weights, out, "--on", address)
    killer.join()
    assert _content(out) == _content(local / name / "out")


@pytest.mark.slow
@places
def test_an_evaluation_gives_the_same_scores_anywhere(request, place, images, weights, local, tmp_path):
    on = SUBMITIT if place == "submitit" else request.getfixturevalue("dask")[0]
    _evaluate(images, weights, tmp_path, f"on='{on}'")
    assert _scores(tmp_path) == _scores(local / "evaluation")


@pytest.mark.slow
def test_an_evaluation_killed_twice_ends_with_the_same_scores_of_two_processes(images, weights, local, tmp_path):
    command = [sys.executable, "evaluate.py", *_words(images, weights, tmp_path)]
    for pattern in ("restored/*.png", "restored/3.png"):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        _when(lambda pattern=pattern: any((tmp_path / "judged").glob(pattern)), process.kill)
        process.wait()
    _evaluate(images, weights, tmp_path, "processes=2")
    assert _scores(tmp_path) == _scores(local / "evaluation")


@pytest.mark.slow
@needs_submitit
def test_what_a_job_raises_elsewhere_is_raised_here(tmp_path):
    with pytest.raises(OSError, match="no job 3"):
        list(pool.run(range(8), refusing, place=pool.Place(["cpu"], SUBMITIT, tmp_path), advance=lambda amount: None))


@pytest.mark.slow
@needs_submitit
def test_a_job_of_slurm_that_dies_is_named_with_its_errors(tmp_path):
    place = pool.Place(["cpu"], SUBMITIT, tmp_path)
    with pytest.raises(
        ValueError, match=r"jobs have no result: Slurm job \d+ ended.*log.err.*run the same command again"
    ):
        list(pool.run(range(4), dying, place=place, advance=lambda amount: None))


def refusing(device):
    return _refuse


def _refuse(job, advance):
    if job == 3:
        raise OSError("no job 3")
    return job


def dying(device):
    return lambda job, advance: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("grid", "'grid' is no place for jobs; known: local, slurm"),
        pytest.param("dask://host", "expected dask://HOST:PORT", marks=needs_dask),
        pytest.param("slurm:gpu", "expected slurm:NAME=VALUE", marks=needs_submitit),
        pytest.param("slurm:jobs=0", "jobs=0 must be a number, at least 1", marks=needs_submitit),
    ],
)
def test_a_place_that_is_none_is_refused_with_what_is_known(on, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pool.place(on, "cpu", folder=tmp_path)


@pytest.mark.parametrize(("on", "extra"), [("slurm:jobs=2", "slurm"), ("dask://host:1", "dask")])
def test_a_place_without_its_package_names_the_extra(on, extra, tmp_path):
    if find_spec({"slurm": "submitit", "dask": "distributed"}[extra]):
        pytest.skip("the extra is installed")
    with pytest.raises(ImportError, match=rf"pip install 'seesr-pl\[{extra}\]'"):
        pool.place(on, "cpu", folder=tmp_path)


@pytest.mark.parametrize(("devices", "processes"), [("cuda:0,cuda:1", 1), ("auto", 2)])
def test_devices_of_this_machine_are_refused_for_others(devices, processes, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_require", lambda package, extra: None)
    with pytest.raises(ValueError, match="is for this machine"):
        pool.place("dask://host:1", devices, folder=tmp_path, num_processes=processes)


def test_parameters_of_slurm_keep_their_colons():
    read = cluster._parameters("slurm:partition=gpu:gres=gpu:a100:1:jobs=16")
    assert (read["partition"], read["gres"], read["jobs"]) == ("gpu", "gpu:a100:1", 16)


def _run(name, images, weights, out, *more):
    words = [word.format(images=images / "hq", out=out, ckpt=weights) for word in COMMANDS[name].split()]
    result = CliRunner().invoke(commands, [*words, *more])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stderr


def _words(images, weights, outputs):
    words = [f"ckpt={weights}", "benchmark=folder", f"benchmark.root={images}", f"paths.outputs={outputs}"]
    words += [
        "sampler.num_inference_steps=1",
        "sampler.guidance_scale=1",
        "sampler.process_size=64",
        "run_name=judged",
        "device=cpu",
    ]
    return [*words, "stages=[restore,score]"]


def _evaluate(images, weights, outputs, *more):
    specification = importlib.util.spec_from_file_location("evaluate", ROOT / "evaluate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("evaluate", overrides=[*_words(images, weights, outputs), *more])
    module.check(cfg)
    assert module.evaluate_restoration(cfg) == 0


def _scores(outputs):
    content = (outputs / "judged" / "scores.csv").read_text()
    assert len(list(csv.DictReader(content.splitlines()))) == NUM_IMAGES
    return content


def _content(out):
    """Every file by name, but for what says when and where it was made."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def _when_any(out, action):
    _when(lambda: out.is_dir() and any(path.is_file() for path in out.rglob("*")), action)


def _when(condition, action):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not condition():
        time.sleep(0.02)
    action()
