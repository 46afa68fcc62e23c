"""A run of DAPE that tests start as a process of its own: `python dape_runs.py '{"shards": ...}'`."""

import json
import sys
from pathlib import Path

import torch
from dape_cases import TINY
from lightning import Trainer, seed_everything

from seesr_pl.data import ShardDataModule, ShardSource
from seesr_pl.degradation import BicubicDegradation
from seesr_pl.models.ram import RAM
from seesr_pl.training import AtomicCheckpointIO, LastCheckpoint
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.frozen import trainable_state_dict

HQ_SIZE = 64


def fit(shards, folder, *, max_steps, micro_batch_size=4, devices=1):
    """Train to `max_steps`, from `<folder>/last.ckpt` if there is one; the LoRA is left in `<folder>/final.pt`."""
    seed_everything(0)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ram = RAM(TINY, ["cat", "dog", "house", "tree"], [0.5] * 4)
    torch.nn.init.normal_(ram.label_embed, std=2.0)
    source = ShardSource(shards)
    data = ShardDataModule(
        [source],
        validation_sources=[source],
        validation_batch_size=1,
        global_batch_size=4,
        micro_batch_size=micro_batch_size,
        num_workers=0,
        crop="resize",
        crop_size=HQ_SIZE,
        degradation=BicubicDegradation(),
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_steps=max_steps,
        val_check_interval=data.accumulation(devices) * 2,
        num_sanity_val_steps=0,
        accumulate_grad_batches=data.accumulation(devices),
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[LastCheckpoint(folder, every_n_steps=2)],
    )
    module = DAPEDistillation(ram, learning_rate=1e-3, lora_rank=2)
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        torch.save(trainable_state_dict(module), folder / "final.pt")
        torch.save([tuple(row) for row in module.tag_result.rows], folder / "rows.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fit(**json.loads(sys.argv[1]))
