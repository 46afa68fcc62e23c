"""What is watched of a run: how far it is, gradient norm, and loss by timestep."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, over the micro batches of the whole run, in a resumed run too."""

    @property
    def total_train_batches(self) -> int | float:
        """The loader's length; Lightning takes the optimizer steps that are left where they are fewer."""
        return self.trainer.num_training_batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Names the length where the start of an epoch has not, because the run goes on within it."""
        bar = self.train_progress_bar
        if bar.total is None and isinstance(self.total_train_batches, int):
            bar.total = self.total_train_batches
            bar.initial = bar.n = batch_idx
            bar.set_description("Epoch 0")


class GradientNorm(Callback):
    """Logs `train/grad_norm`: the norm of all gradients together, unscaled and before clipping."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Called once an optimizer step, after all its micro batches."""
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        pl_module.log("train/grad_norm", get_total_norm(gradients))


class LossByTimestep(Callback):
    """Logs `loss_by_timestep/<first>-<last>`: mean loss of the samples of each range since the last logged step.

    Reads `losses` and `timesteps` from what `training_step` returns.

    Args:
        num_bins: ranges of equal length.
        num_timesteps: of the noise schedule.
    """

    def __init__(self, *, num_bins: int = 10, num_timesteps: int = 1000) -> None:
        self.num_bins, self.num_timesteps = num_bins, num_timesteps
        self._sums: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the micro batch; logs at the end of a step that the loggers take."""
        bins = outputs["timesteps"] * self.num_bins // self.num_timesteps
        losses = outputs["losses"].float()
        if self._sums is None:
            self._sums = losses.new_zeros(2, self.num_bins)
        self._sums.index_add_(1, bins, torch.stack([losses, torch.ones_like(losses)]))
        if ends_logged_step(trainer, batch_idx):
            total, count = trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
            means = {self._name(index): total[index] / count[index] for index in range(self.num_bins) if count[index]}
            # Not by `log`: Lightning would repeat the last value of a range that no sample fell into.
            for logger in trainer.loggers:
                logger.log_metrics(means, step=trainer.global_step - 1)
            self._sums = None

    def _name(self, index: int) -> str:
        first, last = (round(self.num_timesteps * edge / self.num_bins) for edge in (index, index + 1))
        return f"loss_by_timestep/{first:03d}-{last - 1:03d}"


def ends_logged_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the micro batch completed an optimizer step, and the loggers take what is logged with it."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and trainer.global_step % every == 0
