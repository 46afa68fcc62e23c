"""What a sweep returns to its sweeper, and what it shows at its end."""

import atexit
import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from seesr_pl import job_names, launch
from seesr_pl.sweeps import SWEEP_VARIABLE, SweepTable, direction, optimized


def test_the_metric_that_is_named_is_returned_and_no_name_returns_none() -> None:
    assert optimized(OmegaConf.create({"optimized_metric": "val/loss"}), {"val/loss": 0.5, "val/psnr_y": 30.0}) == 0.5
    assert optimized(OmegaConf.create({"optimized_metric": None}), {}) is None


def test_a_metric_that_was_not_logged_is_refused_with_those_that_were() -> None:
    with pytest.raises(ValueError, match="optimized_metric=val/los was not logged; what was: val/loss, val/psnr_y"):
        optimized(OmegaConf.create({"optimized_metric": "val/los"}), {"val/psnr_y": 1.0, "val/loss": 2.0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("val/loss", "minimize"), ("lpips", "minimize"), ("niqe", "minimize"), ("val/psnr_y", "maximize"),
     ("clipiqa", "maximize"), (None, "maximize")],
)  # fmt: skip
def test_losses_and_distances_are_minimized_and_all_else_is_maximized(name: str | None, expected: str) -> None:
    assert direction(name) == expected


def run_job(table: SweepTable, folder: Path, overrides: list[str], value: Any, status: JobStatus) -> None:
    folder.mkdir(exist_ok=True)
    config = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(folder)}}})
    table.on_job_start(config)
    table.on_job_end(config, JobReturn(overrides=overrides, _return_value=value, status=status))


@pytest.mark.parametrize(("metric", "order"), [("val/loss", ["b", "a", "c"]), ("val/psnr_y", ["a", "b", "c"])])
def test_the_table_has_what_varied_the_best_job_first_and_a_failed_one_last(
    metric: str, order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SWEEP_VARIABLE, "before")
    monkeypatch.setenv("COLUMNS", "200")
    config = OmegaConf.create({"optimized_metric": metric, "hydra": {"sweep": {"dir": str(tmp_path)}}})
    earlier, table = SweepTable(), SweepTable()
    run_job(earlier, tmp_path / "earlier", ["++rate=9", "seed=1"], 0.0, JobStatus.COMPLETED)
    table.on_multirun_start(config)
    atexit.unregister(table.print)
    for name, rate, value in (("a", 1, 2.0), ("b", 2, 1.5)):
        run_job(table, tmp_path / name, [f"++rate={rate}", "seed=1"], value, JobStatus.COMPLETED)
    run_job(table, tmp_path / "c", ["++rate=3", "seed=1"], ValueError("[too] fast"), JobStatus.FAILED)
    table.print(config)
    shown = capsys.readouterr().out
    folders = [line.split(str(tmp_path))[1][1] for line in shown.splitlines() if str(tmp_path) in line]
    assert folders == order
    assert "3 jobs, 1 failed" in shown
    assert "[too] fast" in shown
    assert "rate" in shown
    assert "seed" not in shown
    assert json.loads((tmp_path / "c" / "job.json").read_text())["failed"] == "[too] fast"
    monkeypatch.setattr(SweepTable, "only_failed", True)
    table.print(config)
    shown = capsys.readouterr().out
    assert [word in shown for word in ("[too] fast", "rate", str(tmp_path / "a"))] == [True, True, False]


def test_a_sweeps_folders_are_named_by_what_the_command_gives_several_values(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-m", "experiment=dape", "seed=1,2", "data.sources=[a,b]", "module.rate=interval(1,2)", "trainer.x=3"]
    monkeypatch.setenv(job_names.SWEPT_VARIABLE, "")
    launch.overrides(words, launch.COMMANDS / "conf", "train")
    job = ["experiment=dape", "seed=1", "++data.sources=[a,b]", "++module.rate=1.5", "++trainer.x=3"]
    assert job_names.sweep_name(job) == "seed=1,module.rate=1.5"


def test_a_folder_name_ends_before_the_file_systems_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(job_names.SWEPT_VARIABLE, "")
    first, second = (job_names.sweep_name([f"a={'x' * 300}{end}"]) for end in "12")
    assert len(first) < 255
    assert first != second


@pytest.mark.parametrize(("devices", "count"), [(8, 8), ("auto", 1), ("4", 4), ([0, 2], 2), (-1, 1)])
def test_a_slurm_job_asks_for_as_many_tasks_as_there_are_devices(devices: Any, count: int) -> None:
    assert launch.count_of(devices) == max(count, 1)


def test_the_sweeper_of_optuna_is_the_one_with_a_study_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: object())
    assert launch.overrides(["hydra/sweeper=optuna"], launch.COMMANDS / "conf", "train") == ["sweeper=optuna"]
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'seesr-pl\[sweep\]'"):
        launch.overrides(["sweeper=optuna"], launch.COMMANDS / "conf", "train")


def test_the_direction_reaches_the_config() -> None:
    cfg = OmegaConf.create({"optimized_metric": "val/loss", "direction": "${direction_of:${optimized_metric}}"})
    assert cfg.direction == "minimize"


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["seesr sampler.start_from=lq", "seesr sampler.start_from=noise"], ["start_from=lq", "start_from=noise"]),
        (["bicubic", "seesr"], ["bicubic", "seesr"]),
        (["seesr", "seesr method.prompter=none"], ["seesr", "seesr method.prompter=none"]),
        (["bicubic seeds=2", "nlm seeds=2"], ["bicubic", "nlm"]),
        (["seesr", "seesr"], ["seesr", "seesr"]),
    ],
)
def test_rows_of_a_table_are_named_by_what_tells_them_apart(labels, short):
    assert job_names.distinct(labels) == short
