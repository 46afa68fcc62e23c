"""Why a run ended before its last step: in words for its user, and as an exit code for scripts."""

from typing import ClassVar


class Stopped(Exception):
    """A run that was asked to stop, or ran out of its time; it has saved its state and is unfinished."""

    exit_code: ClassVar[int] = 75
    """EX_TEMPFAIL of sysexits.h: the same command again goes on."""


class OutOfTime(Stopped):
    """A run whose `trainer.max_time` is over."""


class NotFinite(Stopped):
    """A run whose loss or gradients are not finite: the same command again would meet the same batch."""

    exit_code: ClassVar[int] = 3
