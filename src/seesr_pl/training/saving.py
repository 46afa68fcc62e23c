"""The checkpoint files of a run: when they are written, how many are kept, and what a failed write does."""

import errno
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch.optim import Optimizer

from seesr_pl.checkpoints.saved import not_finite, require_sound
from seesr_pl.files import write_whole
from seesr_pl.training.stops import NotFinite

_log = logging.getLogger(__name__)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LastCheckpoint(ModelCheckpoint):
    """Keep `<folder>/last.ckpt`, from which the same command resumes, and `previous.ckpt`, the one before it.

    Written at intervals, after the last step, and when an error ends the run between two steps.

    Args:
        folder: of both files.
        every_n_steps: optimizer steps between two files, the most that a killed run loses; at least 1.
    """

    def __init__(self, folder: str | Path, *, every_n_steps: int = 500) -> None:
        _check_positive("every_n_steps", every_n_steps)
        super().__init__(
            dirpath=folder, filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False
        )
        self.path = Path(folder) / "last.ckpt"
        self._between_steps = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare what all checkpoints of the run will take with what is free.

        Raises ValueError where not even this file and its draft fit.
        """
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _check_room(trainer, pl_module, self.path.parent)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step that is on the disk already."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved, self._between_steps = trainer.global_step, True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """From here to the end of the batch, weights, moments, average and counters belong to two different steps."""
        self._between_steps = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save as Lightning does, and also after a last step that is no multiple of `every_n_steps`."""
        self._between_steps = True
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where training stops before its last step, by a time limit or early stopping."""
        self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what the completed steps have learned, without the other ranks: they may be gone."""
        # In validation an average stands in for the weights that train.
        swapped = trainer.validating and any(isinstance(each, WeightAveraging) for each in trainer.callbacks)  # type: ignore[attr-defined]
        sound = not isinstance(exception, NotFinite)  # a resume must meet that step, not pass it
        if self._between_steps and sound and not swapped and self._is_new(trainer):
            trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(None), self.path)

    def save(self, trainer: Trainer) -> None:
        """Save on all ranks, unless this step is saved already."""
        if self._is_new(trainer):
            self._save_checkpoint(trainer, str(self.path))

    def _is_new(self, trainer: Trainer) -> bool:
        return not trainer.fast_dev_run and trainer.global_step != self._last_global_step_saved  # type: ignore[attr-defined]


class KeptCheckpoints(ModelCheckpoint):
    """Keep the newest `num_kept` of the files `<folder>/step_<n>.ckpt`, to compare or go back to.

    Args:
        folder: of the files.
        every_n_steps: optimizer steps between two files.
        num_kept: older ones are removed once a newer one is whole; None keeps all.
    """

    def __init__(self, folder: str | Path, *, every_n_steps: int = 10000, num_kept: int | None = 3) -> None:
        _check_positive("every_n_steps", every_n_steps)
        if num_kept is not None:
            _check_positive("num_kept", num_kept)
        super().__init__(
            dirpath=folder,
            filename="step_{step:07d}",
            auto_insert_metric_name=False,
            every_n_train_steps=every_n_steps,
            save_top_k=-1,
            enable_version_counter=False,
        )
        self.folder, self.num_kept = Path(folder), num_kept

    def most(self, max_steps: int) -> int:
        """Return how many files there are at once, at most, in a run of `max_steps`."""
        written = max_steps // self._every_n_train_steps
        return written if self.num_kept is None else min(written, self.num_kept + 1)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        # By what is on the disk, not by a list in memory: a write may have failed, or a killed run left a file.
        if trainer.is_global_zero and self.num_kept:
            for path in sorted(self.folder.glob("step_*.ckpt"))[: -self.num_kept]:
                path.unlink()


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


def _check_room(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = list(folder.glob("*.ckpt"))
    trainable = checkpoint_bytes([each for each in module.parameters() if each.requires_grad])
    average = any(isinstance(each, WeightAveraging) for each in trainer.callbacks)  # type: ignore[attr-defined]
    # AdamW keeps two moments of each weight; what an earlier part of the run wrote is exact.
    size = max((file.stat().st_size for file in files), default=(3 + average) * trainable)
    kept = [each for each in trainer.callbacks if isinstance(each, KeptCheckpoints)]  # type: ignore[attr-defined]
    count = 3 + sum(each.most(trainer.max_steps) for each in kept)  # the last two, and a draft
    free, needed = shutil.disk_usage(folder).free, size * max(1, count - len(files))
    if free >= needed:
        return
    message = (
        f"{folder}: up to {count} checkpoints of {in_bytes(size)} need {in_bytes(needed)} more, {in_bytes(free)} are "
        "free; keep fewer by callbacks.kept.num_kept=N, or choose another disk by paths.outputs=DIR"
    )
    if free < size * max(1, 2 - len(files)):
        raise ValueError(message)
    _log.warning(message)


def checkpoint_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(checkpoint_bytes(child) for child in children)


def in_bytes(count: int) -> str:
    """Return a count of bytes in words, with the exact number: "9.0 GB (9,001,234,567 bytes)"."""
    return f"{count / 1e9:.1f} GB ({count:,} bytes)"


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
