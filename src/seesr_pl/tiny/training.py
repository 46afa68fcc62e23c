"""Training of the tiny stack's shipped weights: its RAM on tagged tiles, and its prior on photographs."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.ram import RAM
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.training.optim import schedule
from seesr_pl.training.seesr import SeeSRDiffusion, mean_squared_error
from seesr_pl.types import Batch

_TIED = ("conv_in", "time_embedding", "down_blocks", "mid_block")
# Squared error of a latent below which an image counts as restored.
_CALM = 1e-3
_TIED_NAMES = tuple(f"controlnet.{part}." for part in _TIED)


class TinyTagging(LightningModule):
    """Supervised training of a whole RAM on the tags of its batches; tags that it does not know are ignored.

    Args:
        ram: trained with its dropout and stochastic depth.
        decay_steps: optimizer steps over which the learning rate falls to zero along half a cosine.
        learning_rate: its largest value.
        warmup_steps: optimizer steps over which the learning rate rises first.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        ram: RAM,
        *,
        decay_steps: int,
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__()
        self.ram = ram
        self.decay_steps, self.learning_rate = decay_steps, learning_rate
        self.warmup_steps, self.weight_decay = warmup_steps, weight_decay
        self._positions = {tag: position for position, tag in enumerate(ram.tag_names)}
        self.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return and log the loss of the HQ tiles."""
        loss = self.loss(batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["key"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of photographs that are not trained on."""
        self.log("val/loss", self.loss(batch), batch_size=len(batch["key"]))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the binary cross entropy of RAM's logits for the HQ tiles, over all tags, against the batch's tags."""
        logits = self.ram.see(to_float(batch["hq"])).logits
        return F.binary_cross_entropy_with_logits(logits, self.targets(batch["tags"]).to(logits))

    def targets(self, lines: list[str]) -> Float[Tensor, "b k"]:
        """Return, for each line "a, b", one for its tags that RAM knows and zero for the rest."""
        targets = torch.zeros(len(lines), len(self._positions))
        for row, line in zip(targets, lines, strict=True):
            row[[self._positions[tag] for tag in line.split(", ") if tag in self._positions]] = 1
        return targets

    def configure_optimizers(self) -> Any:
        """Return AdamW over all parameters, and its schedule, which counts optimizer steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        scheduler = schedule(optimizer, warmup_steps=self.warmup_steps, decay_steps=self.decay_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def in_decibels(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Return about the logarithm of each sample's error: a decibel counts the same in smooth and in busy images."""
    return torch.log1p(mean_squared_error(prediction, target) / _CALM)


class TinyPrior(SeeSRDiffusion):
    """`SeeSRDiffusion` in which the whole UNet trains: loss `in_decibels`, no RCA, tags of the shards.

    The ControlNet's encoder is the UNet's own, not a copy, and its stem has no effect. So the encoder learns to read
    the LQ latent, and a ControlNet that is later copied from this UNet, as SeeSR's is, only has to learn to pass its
    features on. UNet and text encoder are kept as the prior. Arguments are those of `SeeSRDiffusion`.
    """

    def __init__(
        self,
        stack: SeeSRStack,
        *,
        decay_steps: int,
        seed: int = 0,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        prompt_drop_probability: float = 0.5,
    ) -> None:
        for part in _TIED:
            setattr(stack.controlnet, part, getattr(stack.unet, part))
        super().__init__(
            stack,
            seed=seed,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=decay_steps,
            prompt_drop_probability=prompt_drop_probability,
            tags="shards",
            rca=False,
            loss=in_decibels,
            optimizer=functools.partial(torch.optim.AdamW, fused=True),
        )
        for name, parameter in self.unet.named_parameters():
            parameter.requires_grad_("image_attentions" not in name.split("."))
        self.controlnet.controlnet_cond_embedding.requires_grad_(False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load as `SeeSRDiffusion` does; the shared encoder is stored once, under the UNet's names."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        for name in state:
            if name.startswith(_TIED_NAMES):
                state[name] = state[name.replace("controlnet.", "unet.", 1)]
