"""A run of two ranks that counts its collectives: `python collective_runs.py FOLDER` writes FOLDER/counts.json."""

import json
import sys
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from seesr_runs import random_batch, small_module
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from seesr_pl.training.callbacks import LossByTimestep

ACCUMULATION, NUM_STEPS, LOGGED_EVERY = 2, 5, 2


class Collectives(Callback):
    """For each step the sizes of the tensors that are reduced, and other collectives by name."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % ACCUMULATION == 0:
            self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
            self._profile.start()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (batch_idx + 1) % ACCUMULATION == 0:
            self._profile.stop()
            found = [event for event in self._profile.events() if event.name.startswith("c10d::")]
            self.steps.append([event.name.removeprefix("c10d::").rstrip("_") for event in found])


def main(folder):
    collectives, logger = Collectives(), CSVLogger(folder)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=NUM_STEPS,
        accumulate_grad_batches=ACCUMULATION,
        log_every_n_steps=LOGGED_EVERY,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=logger,
        callbacks=[LossByTimestep(num_bins=2), collectives],
    )
    # Lightning's own, on the device, at each micro batch; `LastCheckpoint` puts a CPU's in its place.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    # Each rank has samples of its own.
    batches = [random_batch([10 * trainer.global_rank + k], size=32) for k in range(NUM_STEPS * ACCUMULATION)]
    module = small_module(learning_rate=0.0)
    trainer.fit(module, DataLoader(batches, batch_size=None))
    if trainer.is_global_zero:
        logger.save()
        (Path(folder) / "counts.json").write_text(json.dumps(collectives.steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
