"""Checkpoint files that are whole or not there, and the one that a run goes on from."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; a process killed at any moment leaves the previous file.

    Lightning's own keeps the file in memory twice, writes it to the system's temporary folder and moves it from there,
    which on another file system is a copy that can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save `checkpoint` under `path`; what is not a local path is written as Lightning does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.part")
        with draft.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)


class LastCheckpoint(ModelCheckpoint):
    """Keeps `<folder>/last.ckpt`, from which the same command goes on: every so many steps and after the last one.

    Args:
        folder: of the file.
        every_n_steps: optimizer steps that a killed run may lose.
    """

    def __init__(self, folder: str | Path, *, every_n_steps: int = 500) -> None:
        super().__init__(
            dirpath=folder, filename="last", every_n_train_steps=every_n_steps, enable_version_counter=False
        )
        self.path = Path(folder) / "last.ckpt"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """As Lightning; a last step that is no multiple of `every_n_steps` counts too."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step == trainer.max_steps and trainer.global_step % self._every_n_train_steps:
            trainer.save_checkpoint(self.path)
