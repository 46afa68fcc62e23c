"""Count damaged samples over all workers of a process; stop the run where there are too many."""

import logging
from collections.abc import Callable

import torch

from seesr_pl.text import shown

_UNSEEN, _SOUND, _DAMAGED = 0, 1, 2
# Below this many samples seen, a single damaged one must not count as many per cent.
_MIN_SEEN = 1000
_MAX_LISTED = 50
_log = logging.getLogger(__name__)


class DamageLedger:
    """The status of each sample, a byte in shared memory: unseen, sound or damaged.

    Each worker writes the bytes of its own samples, so no lock is needed. A damaged sample is logged once.
    Raises ValueError unless `max_bad_fraction` is in [0, 1].
    """

    def __init__(self, num_samples: int, *, max_bad_fraction: float) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction={max_bad_fraction} must be between 0 and 1")
        self.max_bad_fraction = max_bad_fraction
        self._status = torch.zeros(num_samples, dtype=torch.uint8).share_memory_()

    @property
    def num_damaged(self) -> int:
        """Number of different damaged samples read so far."""
        return int((self._status == _DAMAGED).sum())

    def damaged(self) -> list[int]:
        """List the numbers of the damaged samples read so far, sorted."""
        return torch.nonzero(self._status == _DAMAGED).flatten().tolist()

    def record_sound(self, sample: int) -> None:
        """Record that `sample` was read and decoded."""
        self._status[sample] = _SOUND

    def record_damaged(self, sample: int, *, reason: str, name: Callable[[int], str]) -> None:
        """Record and log that `sample` is damaged; `name` gives a sample's name in messages.

        Raises ValueError, with a list, where more than `max_bad_fraction` of the samples seen are damaged.
        """
        if self._status[sample] == _DAMAGED:
            return
        self._status[sample] = _DAMAGED
        _log.warning("damaged sample %s is replaced: %s", shown(name(sample)), shown(reason))
        num_damaged = self.num_damaged
        seen = max(int((self._status != _UNSEEN).sum()), min(_MIN_SEEN, len(self._status)))
        if num_damaged > self.max_bad_fraction * seen:
            raise ValueError(self._message(num_damaged, seen, name))

    def _message(self, num_damaged: int, seen: int, name: Callable[[int], str]) -> str:
        listed = "\n".join(f"  {name(sample)}" for sample in self.damaged()[:_MAX_LISTED])
        more = f"\n  and {num_damaged - _MAX_LISTED} more" if num_damaged > _MAX_LISTED else ""
        return (
            f"{num_damaged} of {seen} samples are damaged, more than max_bad_fraction={self.max_bad_fraction}; "
            f"check the shards with `seesr shards verify`:\n{listed}{more}"
        )
