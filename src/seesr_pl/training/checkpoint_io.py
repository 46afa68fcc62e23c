"""How a checkpoint is written and read: whole or not at all, never with a NaN, never a damaged one."""

import errno
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from seesr_pl.checkpoints.saved import not_finite, require_sound
from seesr_pl.files import write_whole

_log = logging.getLogger(__name__)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint whole or not at all, and read none that is damaged.

    A process killed at any moment leaves the previous file; what `last.ckpt` held before becomes `previous.ckpt`.
    Lightning's own keeps the file in memory twice, writes it to the system's temporary folder and moves it from there,
    which on another file system is a copy that can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save `checkpoint` under `path`; a path with a protocol ("s3://...") is left to Lightning.

        Where the disk is full, or a weight is not finite, say so in one line and leave the files as they are: it is
        for the next interval to succeed, or for the guard of the losses to stop the run.
        """
        names = not_finite(checkpoint)
        if names:
            _log.warning("%s not written: %d tensors are not finite, first %s", path, len(names), names[0])
        elif "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            _write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint; ValueError where it is damaged. Objects are unpickled only by `weights_only=False`."""
        if "://" not in str(path):
            require_sound(path)
        return super().load_checkpoint(path, map_location, weights_only=weights_only is not False)


def checkpoint_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(checkpoint_bytes(child) for child in children)


def in_bytes(count: int) -> str:
    """Return a count of bytes in words, with the exact number: "9.0 GB (9,001,234,567 bytes)"."""
    return f"{count / 1e9:.1f} GB ({count:,} bytes)"


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    def draft_of(draft: Path) -> None:
        # Through a Python file, whose errors tell a full disk from others.
        with draft.open("wb") as file:
            torch.save(checkpoint, file)

    keep = path.with_name("previous.ckpt") if path.name == "last.ckpt" else None
    try:
        write_whole(path, draft_of, keep=keep)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or cause.errno not in _NO_ROOM:
            raise
        free, needed = shutil.disk_usage(path.parent).free, checkpoint_bytes(checkpoint)
        _log.warning(
            "%s not written: %s needs %s, %s are free; the files before it stay, the run goes on",
            *(path, path.parent, in_bytes(needed), in_bytes(free)),
        )
