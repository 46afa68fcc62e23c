"""Jobs of a sweep do not harm each other; a run folder has one writer; names are kept as typed."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from machine_runs import finished, global_step, shards, start, words
from omegaconf import OmegaConf

from seesr_pl import launch, process
from seesr_pl.config import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(autouse=True)
def _released():
    yield
    process.release()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("2026_11_25", "'2026_11_25'"), ("007", "'007'"), ("1e5", "'1e5'"), ("on", "'on'"), ("a,1_0", "'a','1_0'")],
)
def test_a_run_name_is_kept_as_typed(typed, kept):
    from hydra import compose, initialize_config_dir

    assert launch.overrides([f"run_name={typed}"], CONF, "train") == [f"run_name={kept}"]
    if "," not in typed:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=["experiment=dape", f"run_name={kept}"])
        assert cfg.paths.run == f"outputs/{typed}"


HOLDER = """
import sys, time
from pathlib import Path
from unittest import mock
from seesr_pl import process
process.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    yield other
    other.kill()
    other.wait()


def test_a_folder_that_another_process_writes_to_is_refused_with_its_host_and_number(tmp_path, holder):
    with pytest.raises(ValueError, match=rf"in use by process {holder.pid} on {os.uname().nodename}; wait for it"):
        process.hold(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    process.hold(tmp_path)  # whoever is dead holds nothing
    process.release()
    assert list(tmp_path.iterdir()) == []


def test_ranks_beside_the_first_do_not_ask(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    process.hold(tmp_path)


def submitted(monkeypatch, tasks):
    for name, value in {
        "EXECUTOR": "local",
        "LOCAL_JOB_ID": "5",
        "LOCAL_NTASKS": str(tasks),
        "LOCAL_LOCALID": "1",
    }.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_more_devices_than_submitit_starts_processes_are_refused_with_the_key(monkeypatch):
    submitted(monkeypatch, tasks=1)
    with pytest.raises(ValueError, match=r"trainer.devices=2, .* 1 process.*hydra.launcher.tasks_per_node=2"):
        process.submitted_ranks(2)


def test_the_processes_of_submitit_are_the_ranks(monkeypatch):
    submitted(monkeypatch, tasks=2)
    with mock.patch.dict(os.environ):  # what the function sets would make a second rank of all later tests
        process.submitted_ranks(2)
        assert (os.environ["LOCAL_RANK"], os.environ["WORLD_SIZE"]) == ("1", "2")


@pytest.fixture
def _job_of_a_sweep(tmp_path):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["experiment=dape", f"paths.outputs={tmp_path}"], return_hydra_config=True)
    OmegaConf.set_readonly(cfg, value=False)
    cfg.hydra.mode, cfg.hydra.runtime.output_dir = RunMode.MULTIRUN, str(tmp_path / "dape")
    HydraConfig.instance().set_config(cfg)
    yield
    HydraConfig.instance().cfg = None


@pytest.mark.usefixtures("_job_of_a_sweep")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ConfigError(["seed = -1: must be at least 0"]), "config: 1 problem, .*; seed = -1: must be at least 0"),
        (InstantiationException("Error in call to target\nfull_key: data"), "lies elsewhere; at data"),
        (RuntimeError("deep"), "deep"),
        (SystemExit(7), r"ended by sys.exit\(7\)"),
    ],
)
def test_a_failed_job_tells_the_whole_problem_on_one_line_without_hydras_traceback(fault, reason, capsys):
    if isinstance(fault, InstantiationException):
        fault.__cause__ = ValueError("a shard\nlies elsewhere")
    with (
        pytest.raises(process.JobFailed, match=f"^.*{reason}$") as failed,
        process.one_job(),
        launch.user_errors(),
    ):
        raise fault
    assert isinstance(failed.value, CompactHydraException)  # which Hydra prints without a traceback
    assert ("Traceback" in capsys.readouterr().err) == isinstance(fault, RuntimeError)


SWEEP = ("-m", "seed=1,2", "hydra.sweep.subdir='seed=${seed}'")  # the line of a test is longer than a folder's name
TWO = ("trainer.devices=2", "trainer.strategy=ddp")


def ends(outputs):
    """What the last checkpoint of each job of a sweep counts, by its seed."""
    paths = outputs.rglob("last.ckpt")
    return {path.parents[1].name.rpartition("seed=")[2][0]: global_step(path) for path in paths}


@pytest.mark.slow
def test_both_jobs_of_a_sweep_on_two_devices_train(pattern, tmp_path):
    got, output = finished(start([*SWEEP, *words(pattern, tmp_path, steps=2), *TWO]), seconds=300)
    assert got == 0, output
    assert ends(tmp_path) == {"1": 2, "2": 2}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_job_that_fails_does_not_end_the_sweep(pattern, tmp_path, fault):
    line = words(pattern, tmp_path, steps=3, fault=("FaultAt", {"step": 1, "fault": fault, "seed": 1}))
    got, output = finished(start([*SWEEP, *line]), seconds=300)
    assert got == 1, output
    assert ends(tmp_path) == {"1": 1, "2": 3}
    assert output.count("failed; the sweep goes on") == 1


@pytest.mark.slow
def test_a_signal_ends_the_whole_sweep(pattern, tmp_path):
    line = words(pattern, tmp_path, steps=3, fault=("FaultAt", {"step": 1, "fault": "SIGTERM"}))
    got, output = finished(start([*SWEEP, *line]), seconds=300)
    assert got == 75, output
    assert ends(tmp_path) == {"1": 1}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs hydra-submitit-launcher")
def test_two_devices_train_under_submitits_local_executor(pattern, tmp_path):
    local = ("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=5")
    got, output = finished(start([*SWEEP, *words(pattern, tmp_path, steps=2), *TWO, *local]), seconds=300)
    assert got == 0, output
    assert ends(tmp_path) == {"1": 2, "2": 2}
