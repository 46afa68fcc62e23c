"""What a sweep returns and shows: the metric of each job for the sweeper, and a table of all jobs at its end."""

import atexit
import json
import math
import os
import textwrap
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from seesr_pl.files import write_whole
from seesr_pl.text import rich_text

SWEEP_VARIABLE = "SEESR_SWEEP"
_LOWER = ("loss", "error", "cross_entropy", "lpips", "dists", "niqe", "fid", "grad_norm", "seconds", "memory")
_JOB = "job.json"
_MAX_REASON = 300  # characters of a reason in the table; `job.json` has it whole


def optimized(cfg: DictConfig, values: Mapping[str, Any]) -> float | None:
    """Return the metric that `cfg.optimized_metric` names, which a sweep compares its jobs by; None if it names none.

    Raises ValueError, which lists `values`, where there is no such metric.
    """
    name = cfg.get("optimized_metric")
    if name is None:
        return None
    if name not in values:
        known = ", ".join(sorted(values)) or "none"
        raise ValueError(f"optimized_metric={name} was not logged; what was: {known}")
    return float(values[name])


def direction(name: str | None) -> str:
    """Return "minimize" for losses, errors and distances, and "maximize" for all other metrics."""
    return "minimize" if name is not None and any(word in name for word in _LOWER) else "maximize"


OmegaConf.register_new_resolver("direction_of", direction, replace=True)


class SweepTable(Callback):
    """Record each job of a sweep in its folder, wherever it runs, and print a table of all of them at the end."""

    only_failed: ClassVar[bool] = False
    """Whether another table shows the jobs that are done, as that of an evaluation does."""

    def __init__(self) -> None:
        self._sweep = ""
        self._refused: list[tuple[Path, dict[str, Any]]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Name the sweep, for its jobs on this and other machines, and make its folder, where a study is kept."""
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        self._sweep = os.environ[SWEEP_VARIABLE] = uuid.uuid4().hex
        # At the exit, because Hydra raises where a job failed, and then does not call `on_multirun_end`.
        atexit.register(self.print, config)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Note the time."""
        self._job_begin = time.time()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write what varied, the metric and the outcome beside the job's results."""
        if SWEEP_VARIABLE not in os.environ:
            return
        done = job_return.status == JobStatus.COMPLETED
        facts = {
            "sweep": os.environ[SWEEP_VARIABLE],
            "overrides": [word.lstrip("+") for word in job_return.overrides or ()],
            "metric": job_return._return_value if done else None,
            "failed": "" if done else str(job_return._return_value),
            "seconds": round(time.time() - self._job_begin, 1),
        }
        folder = Path(config.hydra.runtime.output_dir)
        if folder.is_dir() or not self._sweep:
            write_whole(folder / _JOB, json.dumps(facts, indent=2) + "\n")
        else:  # refused before it began: it leaves nothing behind
            self._refused.append((folder, facts))

    def print(self, config: DictConfig) -> None:
        """Print the table, best job first."""
        folder, name = Path(config.hydra.sweep.dir), config.get("optimized_metric")
        found = [(path.parent, json.loads(path.read_text())) for path in folder.rglob(_JOB)]
        jobs = [job for job in found if job[1]["sweep"] == self._sweep]
        show([*jobs, *self._refused], name, only_failed=self.only_failed)


def show(jobs: list[tuple[Path, dict[str, Any]]], name: str | None, *, only_failed: bool = False) -> None:
    """Print what varied in each job, its metric `name`, its time and its folder; the best job comes first."""
    varied = _words(jobs)
    failed = sum(bool(facts["failed"]) for _, facts in jobs)
    if only_failed and not failed:
        return
    counted = f"{len(jobs)} job{'s' * (len(jobs) != 1)}" + (f", {failed} failed" if failed else "")
    table = Table(title=counted + (f", by {name}" if name else ""))
    outcome = [name or "outcome"] if name or failed else []
    for head in (*varied, *outcome, "s", "folder"):
        table.add_column(head, overflow="fold")
    shown = [job for job in jobs if job[1]["failed"] or not only_failed]
    for folder, facts in sorted(shown, key=lambda job: _rank(job[1]["metric"], name)):
        values = {key: value for key, _, value in (word.partition("=") for word in facts["overrides"])}
        metric = "" if facts["metric"] is None else f"{facts['metric']:.6g}"
        metric = f"failed: {textwrap.shorten(facts['failed'], _MAX_REASON)}" if facts["failed"] else metric
        row = [*(values.get(word, "") for word in varied), *([metric] if outcome else []), f"{facts['seconds']:.0f}"]
        place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        cells = [rich_text(cell) for cell in (*row, place)]
        table.add_row(*cells, style="red" if facts["failed"] else None)
    Console().print(table)


def _words(jobs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Return the keys whose values differ between jobs, in the order of the command line."""
    seen: dict[str, set[str]] = {}
    for _, facts in jobs:
        for word in facts["overrides"]:
            key, _, value = word.partition("=")
            seen.setdefault(key, set()).add(value)
    return [key for key, values in seen.items() if len(values) > 1]


def _rank(metric: float | None, name: str | None) -> float:
    """Return what jobs are sorted by; one without a metric comes last whatever the direction."""
    if metric is None or math.isnan(metric):
        return math.inf
    return -metric if direction(name) == "maximize" else metric
