"""Count damaged samples over all workers of a process, and stop when there are too many."""

import logging
from collections.abc import Callable

import torch

_UNSEEN, _SOUND, _DAMAGED = 0, 1, 2
# Below this many samples seen, a single damaged one must not count as many per cent.
_MIN_SEEN = 1000
_MAX_LISTED = 50
_log = logging.getLogger(__name__)


class DamageLedger:
    """One byte for each sample in shared memory: unseen, sound or damaged.

    Workers write their own samples' bytes, so nothing is locked and nothing grows. A damaged sample is logged once.
    """

    def __init__(self, num_samples: int, *, max_bad_fraction: float) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction={max_bad_fraction} must be between 0 and 1")
        self.max_bad_fraction = max_bad_fraction
        self._status = torch.zeros(num_samples, dtype=torch.uint8).share_memory_()

    @property
    def num_damaged(self) -> int:
        """How many different damaged samples were read so far."""
        return int((self._status == _DAMAGED).sum())

    def damaged(self) -> list[int]:
        """List the damaged samples read so far, in order."""
        return torch.nonzero(self._status == _DAMAGED).flatten().tolist()

    def record_sound(self, sample: int) -> None:
        """Record that `sample` was read and decoded."""
        self._status[sample] = _SOUND

    def record_damaged(self, sample: int, *, reason: str, name: Callable[[int], str]) -> None:
        """Record and log that `sample` is damaged; ValueError with the list where there are too many."""
        if self._status[sample] == _DAMAGED:
            return
        self._status[sample] = _DAMAGED
        _log.warning("damaged sample %s is replaced: %s", name(sample), reason)
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
