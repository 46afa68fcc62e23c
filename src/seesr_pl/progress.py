"""The progress bar of every command: bytes, samples, steps or images, with count, rate and time left."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from seesr_pl.text import shown

T = TypeVar("T")


class Bar:
    """A progress bar on the screen, made by `bar`."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""
        self._progress.advance(self._task, amount)

    def reach(self, done: float, total: float) -> None:
        """Set the amount done and the total, where the total is not known at the start."""
        self._progress.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """Show `text` after the counts, in place of the previous one."""
        self._progress.update(self._task, note=shown(text))


@contextmanager
def bar(description: str, total: float | None, *, unit: str) -> Iterator[Bar]:
    """Show a bar on the error stream while the context lasts; the standard output can thus be piped.

    Args:
        description: what is being done, e.g. "indexing".
        total: number of units; None where `Bar.reach` will set it.
        unit: "bytes", shown as MB and MB/s, or the plural of what is counted: "samples", "steps", "images".
    """
    counts = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), _Rate(unit))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counts)
    more = (TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, *more, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, note="")
        try:
            yield Bar(progress, task)
        except BaseException:
            # An empty bar tells nothing of what is refused.
            progress.live.transient = not progress.tasks[task].completed
            raise


def track(items: Sequence[T], description: str, *, unit: str = "images") -> Iterator[T]:
    """Go through `items` under a bar; arguments as of `bar`."""
    with bar(description, len(items), unit=unit) as shown:
        for item in items:
            yield item
            shown.advance()


class _Rate(ProgressColumn):
    """The unit, and units per second; seconds per unit where one takes longer than a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text(self.unit)
        rate = f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        return Text(f"{self.unit}, {rate}")
