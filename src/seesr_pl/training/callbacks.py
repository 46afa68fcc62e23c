"""Callbacks of a run: progress, loss by timestep, tags."""

import functools
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.optim import Optimizer

from seesr_pl.annotations import Count, within_limits
from seesr_pl.evaluation.semantics import TagResult, TagRow
from seesr_pl.evaluation.tag_report import tag_sheet, write_tags
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.frozen import PartlyFrozen, is_logged_step


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, over the optimizer steps of the whole run, also in a resumed run."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the steps that are done and those to do."""
        super().on_train_start()
        bar = self.train_progress_bar
        bar.unit, bar.initial = " steps", trainer.global_step
        bar.reset(trainer.max_steps)
        bar.set_description("training")

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Do nothing: Lightning would begin again at zero, and count micro batches."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step, and the loss, after its last micro batch."""
        ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if ended and self._should_update(trainer.global_step, trainer.max_steps):
            self.train_progress_bar.n = trainer.global_step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what the bar shows: the logged values that ask for it, without Lightning's version number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("train/"): value for name, value in metrics.items() if name != "v_num"}


class LossByTimestep(Callback):
    """Log `loss_by_timestep/<first>-<last>`: mean loss of the samples of each range since the last logged step.

    Reads `losses` and `timesteps` of the micro batches of `SeeSRDiffusion`.

    Args:
        num_bins: ranges of equal length.
        num_timesteps: number of timesteps of the noise schedule.
    """

    @within_limits
    def __init__(self, *, num_bins: Count = 10, num_timesteps: Count = 1000) -> None:
        self.num_bins, self.num_timesteps = num_bins, num_timesteps
        self._sums: Tensor | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add the micro batches of the step; log at a step that the loggers record."""
        assert isinstance(pl_module, PartlyFrozen)
        timesteps, losses = (
            torch.cat([outputs[name] for outputs in pl_module.micro_outputs]) for name in ("timesteps", "losses")
        )
        if self._sums is None:
            self._sums = losses.new_zeros(2, self.num_bins, dtype=torch.float32)
        bins = timesteps * self.num_bins // self.num_timesteps
        self._sums.index_add_(1, bins, torch.stack([losses.float(), torch.ones_like(losses, dtype=torch.float32)]))
        if is_logged_step(trainer):
            pl_module.rank_sums.add(self._sums, functools.partial(self._log, trainer))
            self._sums = None

    def _log(self, trainer: Trainer, sums: Tensor) -> None:
        total, count = sums.tolist()
        means = {self._name(index): total[index] / count[index] for index in range(self.num_bins) if count[index]}
        # Not by `log`: Lightning would repeat the last value of a range that no sample fell into.
        for logger in trainer.loggers:
            logger.log_metrics(means, step=trainer.global_step)

    def _name(self, index: int) -> str:
        first, last = (round(self.num_timesteps * edge / self.num_bins) for edge in (index, index + 1))
        return f"loss_by_timestep/{first:03d}-{last - 1:03d}"


class TagReport(Callback):
    """Write `<folder>/<step>/tags.csv` and `example_<i>.png`; a W&B logger gets the same table and images."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, on rank 0, the result of the validation that has just ended."""
        assert isinstance(pl_module, DAPEDistillation)
        if not trainer.is_global_zero or pl_module.tag_result is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        write_tags(pl_module.tag_result, self.folder / f"{trainer.global_step:06d}")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                _log_to_wandb(logger, pl_module.tag_result, step=trainer.global_step - 1)


def ends_logged_step(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether the micro batch completed an optimizer step that the loggers record."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and trainer.global_step % every == 0


def _log_to_wandb(logger: WandbLogger, result: TagResult, *, step: int) -> None:
    logger.log_table("val/tags", columns=list(TagRow._fields), data=[list(row) for row in result.rows], step=step)
    logger.log_image("val/examples", images=[tag_sheet(example) for example in result.examples], step=step)
