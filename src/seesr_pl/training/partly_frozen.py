"""A LightningModule whose checkpoints hold what trains and name the rest by hash."""

from typing import Any, ClassVar, Self

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from seesr_pl.checkpoints import io
from seesr_pl.training.placement import copy_sharing_frozen
from seesr_pl.types import Batch


class PartlyFrozen(LightningModule):
    """What DAPE's and SeeSR's stages share: frozen parts named by hash, batches of which only the pictures travel."""

    frozen_parts: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.frozen_hashes: dict[str, str] = {}
        self._micro_losses: list[Tensor] = []

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Only pictures travel: reading a sample's keys back from a GPU would wait for all that is queued there."""
        pictures = {"hq": batch["hq"], "lq": batch["lq"]}
        return {**batch, **super().transfer_batch_to_device(pictures, device, dataloader_idx)}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """The next loss belongs to the next step."""
        self._micro_losses.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains."""
        io.keep_trainable(checkpoint, self, self.frozen_hashes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other frozen weights."""
        self.hash_frozen()
        io.add_frozen(checkpoint, self, self.frozen_hashes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with its own trainable parameters and the same frozen ones, for Lightning's weight averaging."""
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__ = copy_sharing_frozen(self, memo)
        return copy

    def hash_frozen(self) -> None:
        """Name the frozen parts, once."""
        # At full precision: before `setup` lowers it, and where a checkpoint is loaded without a trainer.
        if not self.frozen_hashes:
            self.frozen_hashes = {part: io.frozen_hash(getattr(self, part)) for part in self.frozen_parts}
