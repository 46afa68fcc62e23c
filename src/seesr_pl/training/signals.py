"""Signals that ask a run to stop: noted when they arrive, acted on between two steps, where its state is whole."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from seesr_pl.training.stops import Stopped

_ASKED = b"\nstopping after this batch and saving; Ctrl-C once more stops at once\n"


class StopSignals:
    """Note SIGTERM, SIGUSR1 and Ctrl-C, and SIGUSR2 where somebody handles it; `received` is the last one, or 0.

    Lightning ends at SIGTERM without saving, and at SIGUSR1 under Slurm it saves in the middle of a step.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def install(self) -> None:
        """Take over the signals of this process; only its main thread may."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            before = signal.getsignal(number)
            nobody = before in (signal.SIG_DFL, None)
            if before is not signal.SIG_IGN and not (nobody and number == signal.SIGUSR2):
                self._before[number] = before
                signal.signal(number, self._note)

    def requeue(self, number: int) -> None:
        """Do what the handler that was there before does to start the job again; call it when the state is saved."""
        before = self._before.get(number)
        if number not in (signal.SIGUSR1, signal.SIGUSR2) or not callable(before):
            return
        if type(before).__module__.startswith("lightning."):
            # Its handler would write all once more, under a new name each time: only ask Slurm.
            task = os.environ.get("SLURM_ARRAY_TASK_ID")
            array = f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{task}" if task else ""
            subprocess.run(["scontrol", "requeue", array or os.environ["SLURM_JOB_ID"]], check=False)
        else:
            try:
                before(number, None)  # submitit's: it queues the job again, and leaves by sys.exit
            except SystemExit as stop:
                raise stop from Stopped("the job is queued again")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            os.write(2, _ASKED)
            signal.signal(signal.SIGINT, signal.default_int_handler)
