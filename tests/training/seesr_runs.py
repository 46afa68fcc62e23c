"""Small SeeSR runs. `python seesr_runs.py JSON` is one in a process of its own, which tests kill and start again."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch
from lightning import Callback, Trainer, seed_everything
from stacks import small_stack

from seesr_pl.data import ShardDataModule, ShardSource
from seesr_pl.degradation import BicubicDegradation
from seesr_pl.training import AtomicCheckpointIO, GradientExchange, LastCheckpoint, SeeSRDiffusion, sharded
from seesr_pl.training.frozen import trainable_state_dict

HQ_SIZE = 64


def small_module(**arguments):
    return SeeSRDiffusion(small_stack(), **arguments)


def random_batch(sample_ids, *, epoch=0, size=HQ_SIZE):
    """What a loader yields; a sample's pictures depend on its id alone."""
    generators = [torch.Generator().manual_seed(number) for number in sample_ids]
    coarse = torch.stack([torch.rand(3, 8, 8, generator=generator) for generator in generators])
    hq = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    lq = torch.nn.functional.interpolate(hq, size // 4, mode="area")
    hq, lq = ((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous() for images in (hq, lq))
    return {
        "hq": hq,
        "lq": lq,
        "key": [f"{number:04d}" for number in sample_ids],
        "sample_id": torch.tensor(sample_ids),
        "epoch": torch.full((len(sample_ids),), epoch),
        "severity": torch.zeros(len(sample_ids)),
        "tags": [f"tag{number}," for number in sample_ids],
    }


def losses_of(module, batch):
    """(losses, timesteps) of a training step without a trainer to log to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are trying to `self.log")
        out = module.training_step(batch, 0)
    return out["losses"], out["timesteps"]


class Diary(Callback):
    """Appends a line for each micro batch of this rank: step, samples, timesteps; kills the process after a step."""

    def __init__(self, folder, kill_after):
        self.folder, self.kill_after = Path(folder), kill_after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        samples = list(zip(batch["epoch"].tolist(), batch["sample_id"].tolist(), strict=True))
        line = {"batch": batch_idx, "samples": samples, "timesteps": outputs["timesteps"].tolist()}
        with (self.folder / f"diary_{trainer.world_size}_{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if trainer.global_step == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(
    shards,
    folder,
    *,
    max_steps,
    global_batch_size=4,
    micro_batch_size=4,
    devices=1,
    every_n_steps=2,
    kill_after=-1,
    callbacks=(),
    exchange=None,
    states_are_cut=False,
    **module_arguments,
):
    """Train to `max_steps`, from `<folder>/last.ckpt` if there is one; returns the module."""
    seed_everything(0)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = ShardDataModule(
        [ShardSource(shards)],
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        num_workers=0,
        crop_size=HQ_SIZE,
        degradation=BicubicDegradation(),
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=max_steps,
        gradient_clip_val=1.0,
        accumulate_grad_batches=data.accumulation(devices),
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            *callbacks,
            GradientExchange(**(exchange or {})),
            Diary(folder, kill_after),
            LastCheckpoint(folder, every_n_steps=every_n_steps),
        ],
    )
    optimizer = sharded if states_are_cut else torch.optim.AdamW
    module = small_module(learning_rate=1e-3, optimizer=optimizer, **module_arguments)
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        torch.save(trainable_state_dict(module), folder / "final.pt")
    return module


if __name__ == "__main__":
    torch.set_num_threads(1)
    fit(**json.loads(sys.argv[1]))
