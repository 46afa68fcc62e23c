"""What a training says at its start and at its end: what it does, where its results are, what to type next."""

from pathlib import Path

from lightning import LightningModule, Trainer

from seesr_pl.data.datamodule import ShardDataModule
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.seesr import SeeSRDiffusion
from seesr_pl.training.wandb_logger import WandB


def opening(
    trainer: Trainer, module: LightningModule, data: ShardDataModule, *, run: str, checkpoint: Path | None
) -> str:
    """Return what is trained, how a step is cut, and where the results go; `checkpoint` is resumed if there is one."""
    parts = data.accumulation(trainer.world_size)
    micro = data.global_batch_size // (parts * trainer.world_size)
    devices = f"{trainer.world_size} device" + "s" * (trainer.world_size > 1)
    trainable, total = (sum(p.numel() for p in module.parameters() if p.requires_grad or every) for every in (0, 1))
    begin = f"go on from {checkpoint}" if checkpoint else "new run"
    return "\n".join(
        [
            f"{run}: {begin}, to step {trainer.max_steps}; {trainable:,} of {total:,} parameters train",
            f"a step: {data.global_batch_size} images = {devices} x {parts} micro batches of {micro}",
            f"results: {run}/metrics.csv, {run}/checkpoints; the same command again resumes",
        ]
    )


def closing(trainer: Trainer, module: LightningModule, *, run: str) -> str:
    """Return where the results are, and commands that use them."""
    lines = [f"step {trainer.global_step} of {trainer.max_steps} done; results in {run}", "next:"]
    uploads = [logger.sync_command for logger in trainer.loggers if isinstance(logger, WandB)]
    return "\n".join([*lines, *(f"  {line}" for line in (*_next_commands(module, run), *uploads) if line)])


def _next_commands(module: LightningModule, run: str) -> list[str]:
    if isinstance(module, SeeSRDiffusion):
        return [
            f"python evaluate.py ckpt={run} benchmark=folder benchmark.root=DIR      (DIR/lq and DIR/hq)",
            f"seesr restore PHOTO.jpg --out restored --ckpt {run}",
        ]
    if isinstance(module, DAPEDistillation):
        return [
            f"python evaluate.py task=tags ckpt={run} benchmark=folder benchmark.root=DIR      (DIR/lq and DIR/hq)",
            f"seesr convert dape {run} {run}/DAPE.safetensors",
            f"python train.py experiment=seesr module.stack.dape={run}/DAPE.safetensors",
        ]
    return [f"open {run}/metrics.csv"]
