"""metrics.csv survives a kill and a resume."""

import csv
from pathlib import Path

from seesr_pl.training.loggers import MetricsCSV


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_row_is_on_disk_at_once_and_a_new_column_keeps_the_old_rows(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 2.0}, 0)
    assert _rows(tmp_path) == [{"step": "0", "train/loss": "2.0"}]
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_metrics({"val/psnr": 30.0}, 1)
    assert _rows(tmp_path) == [
        {"step": "0", "train/loss": "2.0", "val/psnr": ""},
        {"step": "1", "train/loss": "1.0", "val/psnr": "30.0"},
    ]


def test_a_resumed_run_replaces_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    killed = MetricsCSV(tmp_path)
    for step in range(5):
        killed.log_metrics({"train/loss": float(step)}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("5,")
    resumed = MetricsCSV(tmp_path)
    resumed.log_metrics({"train/loss": 30.0}, 3)
    resumed.log_metrics({"train/loss": 40.0}, 4)
    assert [(row["step"], row["train/loss"]) for row in _rows(tmp_path)] == [
        ("0", "0.0"), ("1", "1.0"), ("2", "2.0"), ("3", "30.0"), ("4", "40.0"),
    ]  # fmt: skip
