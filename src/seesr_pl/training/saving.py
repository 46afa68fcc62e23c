"""The checkpoint files of a run: when they are written, and how many are kept."""

import logging
import shutil
import signal
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer, WeightAveraging
from torch.optim import Optimizer

from seesr_pl.annotations import Count
from seesr_pl.checkpoints.saved import step_of
from seesr_pl.training import ranks
from seesr_pl.training.checkpoint_io import checkpoint_bytes, in_bytes
from seesr_pl.training.signals import StopSignals
from seesr_pl.training.stops import NotFinite, OutOfTime, Stopped

_log = logging.getLogger(__name__)
_TIME_IS_UP = 1000  # above every number of a signal


class LastCheckpoint(ModelCheckpoint):
    """Keep `<folder>/last.ckpt`, from which the same command resumes, and `previous.ckpt`, the one before it.

    Written at intervals, after the last step, and before the run ends for another reason: SIGTERM, SIGUSR1, Ctrl-C,
    `trainer.max_time`, an error. All ranks stop at the same step.

    Args:
        folder: of both files.
        every_n_steps: optimizer steps between two files, the most that a killed run loses; at least 1.

    Raises Stopped where the run was asked to stop.
    """

    def __init__(self, folder: str | Path, *, every_n_steps: Count = 500) -> None:
        _check_positive("every_n_steps", every_n_steps)
        super().__init__(
            dirpath=folder, filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False
        )
        self.path = Path(folder) / "last.ckpt"
        self._between_steps = False
        self._signals = StopSignals()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare what all checkpoints of the run will take with what is free.

        Raises ValueError where not even this file and its draft fit.
        """
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _check_room(trainer, pl_module, self.path.parent)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step that is on the disk already, and watch for signals."""
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved, self._between_steps = trainer.global_step, True
        self._signals.install()
        if trainer.received_sigterm:
            self._signals.received = signal.SIGTERM
        # Lightning has the ranks ask each other at each micro batch whether to stop, on the device, and waits for the
        # answer: a wait for all that is queued there. `agree` asks once a step, on the CPU.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """From here to the end of the batch, weights, moments, average and counters belong to two different steps."""
        self._between_steps = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save as Lightning does, after the last step, and where the run is asked to stop."""
        self._between_steps = True
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps:
            self.save(trainer)
            return
        if ranks.is_distributed() and (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # several ranks ask each other once a step
        try:
            self._stop_if_asked(trainer)
        except (OutOfTime, Stopped):
            # Lightning writes the row of a step after its callbacks, where this stop would leave it out.
            trainer._logger_connector.on_batch_end()
            trainer._logger_connector.update_train_step_metrics()
            raise

    def on_validation_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Save at once where the run is asked to stop: the rest of the validation may take too long."""
        if self._signals.received and not trainer.sanity_checking:
            self._save_alone(trainer)
            if trainer.world_size == 1 and not _averages(trainer):
                self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the run was asked to in the meantime."""
        if not trainer.sanity_checking and trainer.global_step < trainer.max_steps:
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where training stops before its last step, by early stopping."""
        self.save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave out the time that has passed: `trainer.max_time` is that of each start, as a queue gives it."""
        checkpoint.get("callbacks", {}).pop("Timer", None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise Stopped where the last step is not on the disk, though it was to be written: the disk is full."""
        super().on_train_end(trainer, pl_module)
        wanted = trainer.is_global_zero and trainer.global_step and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if wanted and step_of(self.path) != trainer.global_step:
            raise Stopped(
                f"step {trainer.global_step} could not be written (see above); once there is room, the same command "
                f"again goes on from {self.path}, step {step_of(self.path)}"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what the completed steps have learned; not after NaN, and not when Ctrl-C was pressed twice."""
        twice = isinstance(exception, KeyboardInterrupt) and self._signals.received
        if not isinstance(exception, NotFinite) and not twice:
            self._save_alone(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save on all ranks, unless this step is saved already."""
        if self._is_new(trainer):
            self._save_checkpoint(trainer, str(self.path))

    def _save_alone(self, trainer: Trainer) -> None:
        """Save without the other ranks, which may be gone, if weights, moments and counters are of one step."""
        # In validation an average stands in for the weights that train.
        swapped = trainer.validating and _averages(trainer)
        if self._between_steps and not swapped and self._is_new(trainer):
            trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(None), self.path)
            self._last_global_step_saved = trainer.global_step

    def _stop_if_asked(self, trainer: Trainer) -> None:
        number = ranks.agree(_TIME_IS_UP if _time_is_up(trainer) else self._signals.received)
        if not number or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.save(trainer)
        self._signals.requeue(number)
        reason = "trainer.max_time is over" if number == _TIME_IS_UP else signal.Signals(number).name
        kind = OutOfTime if number == _TIME_IS_UP else Stopped
        raise kind(
            f"{reason}: stopped after step {trainer.global_step} of {trainer.max_steps}; "
            f"the same command again goes on from {self.path}"
        )

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


def _check_room(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = list(folder.glob("*.ckpt"))
    trainable = checkpoint_bytes([each for each in module.parameters() if each.requires_grad])
    # AdamW keeps two moments of each weight; what an earlier part of the run wrote is exact.
    size = max((file.stat().st_size for file in files), default=(3 + _averages(trainer)) * trainable)
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


def _averages(trainer: Trainer) -> bool:
    return any(isinstance(each, WeightAveraging) for each in trainer.callbacks)  # type: ignore[attr-defined]


def _time_is_up(trainer: Trainer) -> bool:
    timers = [each for each in trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]
    return any((each.time_remaining() or 1.0) <= 0 for each in timers)


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
