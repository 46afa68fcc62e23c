"""`metrics.csv`: one row for each logged step, complete after a kill, without double rows after a resume."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from seesr_pl.files import write_whole


class MetricsCSV(Logger):
    """Append `step` and every logged scalar to `<folder>/metrics.csv`.

    Each row is on disk when `log_metrics` returns. A run that resumes at step s drops the rows it will write again.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._columns: list[str] = ["step"]
        self._row: dict[str, Any] = {}
        self._row_start: int | None = None

    @property
    def name(self) -> str:
        """Empty: the folder alone names the run; Lightning asks for it."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as `name`."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of `metrics.csv`."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write `metrics` into the row of `step`."""
        step = step or 0
        if self._row_start is None:
            self._open(step)
        if self._row.get("step") != step:
            self._row, self._row_start = {"step": step}, self.path.stat().st_size
        self._row.update({name: float(value) for name, value in metrics.items() if name != "epoch"})
        new = [name for name in self._row if name not in self._columns]
        if new:
            self._add_columns(sorted(new))
        self._write_row()

    def _open(self, step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or ["step"])
                rows = [row for row in reader if _step(row) < step]
        self._rewrite(rows)
        self._row_start = self.path.stat().st_size

    def _add_columns(self, new: list[str]) -> None:
        with self.path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if _step(row) != self._row["step"]]
        self._columns += new
        self._rewrite(rows)
        self._row_start = self.path.stat().st_size

    def _write_row(self) -> None:
        assert self._row_start is not None
        with self.path.open("r+b") as file:
            file.truncate(self._row_start)
            file.seek(self._row_start)
            file.write(self._text([self._row]))

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        write_whole(self.path, ",".join(self._columns).encode() + b"\n" + self._text(rows))

    def _text(self, rows: list[dict[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


def _step(row: Mapping[str, Any]) -> int:
    # A process killed within a write may leave half a row: it counts as later than every step and is dropped.
    try:
        return int(row["step"])
    except (TypeError, ValueError):
        return 1 << 62
