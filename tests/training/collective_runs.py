"""A run of two ranks that counts its collectives: `python collective_runs.py FOLDER` writes FOLDER/counts.json.

Callbacks are those of a run that ask the other ranks; a further word, `phases`, has the parts of a step measured too.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from seesr_runs import random_batch, small_module
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from seesr_pl.training.callbacks import LossByTimestep
from seesr_pl.training.gradients import GradientNorm
from seesr_pl.training.phases import Phases
from seesr_pl.training.ranks import RankTimeout
from seesr_pl.training.saving import LastCheckpoint

ACCUMULATION, NUM_STEPS, LOGGED_EVERY = 2, 6, 2


class Collectives(Checkpoint):  # of which the last one given comes last
    """For each step the collectives by name, and how many of them reduce on the CPUs' own group."""

    def __init__(self):
        self.steps, self.on_cpus, self.all_reduce = [], 0, dist.all_reduce
        dist.all_reduce = self.reduce

    def reduce(self, tensor, op=dist.ReduceOp.SUM, group=None, async_op=False):
        self.on_cpus += group is not None
        return self.all_reduce(tensor, op, group, async_op)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % ACCUMULATION == 0:
            self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
            self._profile.start()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (batch_idx + 1) % ACCUMULATION == 0:
            self._profile.stop()
            found = [event for event in self._profile.events() if event.name.startswith("c10d::")]
            names = [event.name.removeprefix("c10d::").rstrip("_") for event in found]
            self.steps.append({"names": names, "on_cpus": self.on_cpus})
            self.on_cpus = 0


def main(folder, *extra):
    collectives, logger, phases = Collectives(), CSVLogger(folder), Phases()
    asking = [LossByTimestep(num_bins=2), GradientNorm(), LastCheckpoint(folder), RankTimeout(), collectives]
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
        logger=logger,
        callbacks=[*asking, *([phases] if extra else [])],
    )
    # Each rank has samples of its own.
    batches = [random_batch([10 * trainer.global_rank + k], size=32) for k in range(NUM_STEPS * ACCUMULATION)]
    module = small_module(learning_rate=0.0)
    trainer.fit(module, DataLoader(batches, batch_size=None))
    if trainer.is_global_zero:
        logger.save()
        (Path(folder) / "counts.json").write_text(json.dumps(collectives.steps))
        (Path(folder) / "phases.json").write_text(json.dumps(phases.seconds))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
