"""What a training says at its start and at its end: what it does, where its results are, what to type next."""

from pathlib import Path

from lightning import LightningModule, Trainer

from seesr_pl.data.datamodule import ShardDataModule
from seesr_pl.models.ram_networks import RAMConfig
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.estimate import MFU, Plan, plan
from seesr_pl.training.seesr import SeeSRDiffusion
from seesr_pl.training.wandb_logger import WandB


def opening(
    trainer: Trainer, module: LightningModule, data: ShardDataModule, *, run: str, checkpoint: Path | None
) -> str:
    """Return what is trained, what a step is and needs, and where the results go; `checkpoint` is resumed, if any."""
    expected = plan(
        module,
        data,
        num_devices=trainer.world_size,
        max_steps=trainer.max_steps,
        precision=str(trainer.precision),
        device=trainer.strategy.root_device,
    )
    begin = f"go on from {checkpoint}" if checkpoint else "new run"
    return "\n".join(
        [
            f"{run}: {begin}, to step {trainer.max_steps}; {parameters(module)}",
            f"a step: {step(expected)}; a device needs {memory_of(expected)}",
            f"speed: {speed(expected)}",
            f"results: {run}/metrics.csv, {run}/checkpoints; the same command again resumes",
        ]
    )


def parameters(module: LightningModule) -> str:
    """Return how many parameters a module has and how many of them train."""
    trained, total = (sum(p.numel() for p in module.parameters() if p.requires_grad or every) for every in (0, 1))
    return f"{trained:,} of {total:,} parameters train"


def step(expected: Plan) -> str:
    """Return how the images of an optimizer step are cut."""
    devices = f"{expected.num_devices} device" + "s" * (expected.num_devices > 1)
    return (
        f"{expected.batch} images = {devices} x {expected.micro_batches} micro "
        f"batch{'es' * (expected.micro_batches != 1)} of {expected.micro_batch_size}"
    )


def memory_of(expected: Plan) -> str:
    """Return the memory of one device, in all and by what takes it."""
    held, of = expected.memory, "" if expected.available is None else f" of {expected.available:.0f}"
    parts = {
        "weights": held.frozen + held.trainable,
        "gradients": held.gradients + held.buckets,
        "optimizer": held.optimizer,
        "activations": held.activations,
    }
    shares = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    return f"about {held.peak:.1f} GiB{of} ({shares})"


def speed(expected: Plan) -> str:
    """Return the expected speed and time, or where they will be measured."""
    if expected.images_per_second is None or expected.days is None:
        return "not predicted on this device; metrics.csv has speed/images_per_second"
    steps = expected.images_per_second * 86_400 / expected.batch
    return (
        f"about {expected.images_per_second:.0f} images/s at {MFU:.0%} of the devices' peak: "
        f"{steps:,.0f} steps a day, {expected.days:.1f} days"
    )


def closing(trainer: Trainer, module: LightningModule, *, run: str) -> str:
    """Return where the results are, and commands that use them."""
    lines = [f"step {trainer.global_step} of {trainer.max_steps} done; results in {run}", "next:"]
    uploads = [logger.sync_command for logger in trainer.loggers if isinstance(logger, WandB)]
    return "\n".join([*lines, *(f"  {line}" for line in (*_next_commands(module, run), *uploads) if line)])


def _next_commands(module: LightningModule, run: str) -> list[str]:
    if isinstance(module, SeeSRDiffusion):
        return [
            f"python evaluate.py ckpt={run}",
            f"seesr restore PHOTO.jpg --out restored --ckpt {run}",
        ]
    if isinstance(module, DAPEDistillation):
        return [
            f"python evaluate.py ckpt={run}",
            f"seesr tag PHOTO.jpg --out tags --ckpt {run}",
            f"python train.py {_second_stage(module)} module.stack.dape={run}",
        ]
    return [f"open {run}/metrics.csv"]


def _second_stage(module: DAPEDistillation) -> str:
    """Return the experiment whose RAM this DAPE fits: that of the paper, or the tiny one, of smaller images."""
    is_tiny = module.ram.config.image_size < RAMConfig().image_size
    return "experiment=tiny_seesr module.representation=dape" if is_tiny else "experiment=seesr"
