"""SeeSR's second stage: the ControlNet and the representation cross-attention learn to denoise HQ latents."""

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from seesr_pl import keyed
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.prompts import PromptStyle, missing_prompt_model, prompter
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.sampling.run_pipeline import Representation, RunPipeline
from seesr_pl.training.conditioning import (
    Condition,
    prediction_target,
    require_adapter,
    sampled_latents,
    soft_prompt,
    text_embeddings,
    training_texts,
)
from seesr_pl.training.frozen import PartlyFrozen, cast_frozen, keep_buffers_local, train_controlnet_and_rca
from seesr_pl.training.optim import schedule
from seesr_pl.types import Batch


class SeeSRDiffusion(PartlyFrozen):
    """Denoising of HQ latents under text, representation and LQ image; the defaults are the paper's.

    Args:
        stack: the networks; Stable Diffusion, the text encoder and the tagger stay frozen.
        seed: keys noise, timestep, posterior and prompt drop of each sample.
        learning_rate: constant after `warmup_steps` optimizer steps.
        warmup_steps: over which it rises linearly.
        decay_steps: if given, over which it falls to zero along half a cosine.
        optimizer: called with the trainable parameters and `lr`.
        prompt_drop_probability: chance that a sample's text is empty (official `null_text_ratio`).
        tags: the text: `shards` reads the batch's, the others are the styles of `models.prompts`, on the HQ crop.
        prompt_model: for `classification` and `caption`, a folder or a name on the Hugging Face hub.
        representation: of the LQ image: `dape` by RAM with its LoRA, `ram` without, `none` one zero token.
        rca: whether the representation cross-attention takes part; if not, it neither runs nor trains.
        gradient_checkpointing: recompute activations of both networks in the backward pass.
        compile: `torch.compile` of both networks and the VAE.
        channels_last: memory format of the convolution weights.
        frozen_dtype: of linear and convolution weights that do not train; below float32 it must be autocast's.

    Raises ValueError where the stack's RAM has no LoRA and `tags` or `representation` asks for it.
    """

    frozen_parts = ("vae", "text_encoder", "unet", "ram")

    def __init__(
        self,
        stack: SeeSRStack,
        *,
        seed: int = 0,
        learning_rate: float = 5e-5,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
        prompt_drop_probability: float = 0.5,
        tags: PromptStyle | Literal["shards"] = "ram",
        prompt_model: str | None = None,
        representation: Representation = "dape",
        rca: bool = True,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        channels_last: bool = False,
        frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        super().__init__()
        require_adapter(stack.ram, representation if rca else "none")
        self.vae: Any = stack.vae
        self.text_encoder, self.tokenizer = stack.text_encoder, stack.tokenizer
        self.unet, self.controlnet, self.ram = stack.unet, stack.controlnet, stack.ram
        self.scheduler: Any = stack.scheduler
        self.seed, self.learning_rate, self.warmup_steps, self.optimizer = seed, learning_rate, warmup_steps, optimizer
        self.decay_steps, self.prompt_drop_probability, self.tags = decay_steps, prompt_drop_probability, tags
        self.prompter = None if tags == "shards" else prompter(tags, ram=stack.ram, model=prompt_model)
        self.representation, self.rca = representation, rca
        self.compile_networks, self.channels_last = compile, channels_last
        self.frozen_dtype: torch.dtype = getattr(torch, frozen_dtype)
        self.val_loss = MeanMetric()
        self.requires_grad_(False)
        train_controlnet_and_rca(self.unet, self.controlnet, rca=rca)
        self.train()
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            self.controlnet.enable_gradient_checkpointing()

    @classmethod
    def missing_files(cls, tags: str = "ram", prompt_model: str | None = None) -> list[MissingFile]:
        """The model that describes the pictures, where it is not on this machine."""
        return missing_prompt_model(tags, prompt_model, argument="prompt_model")

    @property
    def stack(self) -> SeeSRStack:
        """The networks, as they are now."""
        return SeeSRStack(
            self.vae, self.text_encoder, self.tokenizer, self.unet, self.controlnet, self.ram, self.scheduler
        )

    def pipeline(self) -> RunPipeline:
        """What restores pictures with the networks as they are now, and is told of them what training was told.

        Tags are those of the LQ pictures, by DAPE where training has its representation (test_seesr.py:137-145).
        """
        own = self.tags in ("ram", "dape", "shards")
        return RunPipeline.of_run(
            self.stack, representation=self.representation, prompter=None if own else self.prompter
        )

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The denoising loss of a micro batch; the losses and timesteps of its samples go along for callbacks."""
        losses, timesteps = self.losses(batch)
        self._micro_losses.append(losses.detach().mean())
        self.log("train/loss", torch.stack(self._micro_losses).mean(), sync_dist=True, batch_size=len(losses))
        return {"loss": losses.mean(), "losses": losses.detach(), "timesteps": timesteps}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The denoising loss of held-out images; a sample meets the same noise and timestep at every validation."""
        losses, _ = self.losses(batch)
        self.val_loss.update(losses)

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all ranks, of which some may have had no image."""
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()

    def losses(self, batch: Batch) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
        """The loss and the timestep of each sample."""
        condition = self.condition(batch)
        latents = self.encode(batch)
        noise, timesteps = self.noise(batch, latents.shape)
        return self.denoising_losses(latents, noise, timesteps, condition), timesteps

    def denoising_losses(
        self,
        latents: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        timesteps: Int[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, " b"]:
        """The mean squared error of each sample's prediction, in float32 (train_seesr.py:1000-1035)."""
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        prediction = self.predict(noisy, timesteps, condition)
        target = prediction_target(self.scheduler, latents, noise, timesteps)
        return F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))

    def predict(
        self, noisy: Float[Tensor, "b c h w"], timesteps: Int[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """What the UNet answers, with the ControlNet's residuals at scale 1."""
        text, representation, image = condition
        down, middle = self.controlnet(
            noisy, timesteps, text, image, image_encoder_hidden_states=representation, return_dict=False
        )
        return self.unet(
            noisy,
            timesteps,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            image_encoder_hidden_states=representation,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def condition(self, batch: Batch) -> Condition:
        """Tags of the HQ crop as text, the representation of the LQ image, the LQ image at HQ size."""
        hq = to_float(batch["hq"])
        image = resize_bicubic(to_float(batch["lq"]), (hq.shape[-2], hq.shape[-1]))
        text = text_embeddings(self.tokenizer, self.text_encoder, self.prompts(hq, batch))
        return Condition(text, soft_prompt(self.ram, image, self.representation) if self.rca else None, image)

    def prompts(self, hq: Float[Tensor, "b 3 h w"], batch: Batch) -> list[str]:
        """The text of each sample; those that the keyed chance drops are empty, and are not tagged at all."""
        chances = keyed.uniform(purpose="prompt_drop", **self._keys(batch))
        kept = [index for index, chance in enumerate(chances.tolist()) if chance >= self.prompt_drop_probability]
        prompts = [""] * len(hq)
        if kept and self.tags != "none":
            texts = training_texts(self.prompter, hq[kept], [batch["tags"][index] for index in kept])
            for index, text in zip(kept, texts, strict=True):
                prompts[index] = text
        return prompts

    @torch.no_grad()
    def encode(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """One sample of the VAE's posterior of each HQ crop, scaled to about unit variance (train_seesr.py:968)."""
        posterior = self.vae.encode(to_float(batch["hq"]) * 2 - 1).latent_dist
        noise = keyed.normal(posterior.mean.shape[1:], purpose="posterior", **self._keys(batch))
        return sampled_latents(posterior, noise.to(self.device, non_blocking=True), self.vae.config.scaling_factor)

    def noise(self, batch: Batch, shape: torch.Size) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]:
        """The noise and the timestep of each sample, whatever the device, rank or batch that it comes in."""
        keys = self._keys(batch)
        noise = keyed.normal(shape[1:], purpose="noise", **keys)
        timesteps = keyed.integers(self.scheduler.config.num_train_timesteps, purpose="timestep", **keys)
        return noise.to(self.device, non_blocking=True), timesteps.to(self.device, non_blocking=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of all that trains."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """The groups of `parameter_groups`; the schedule counts optimizer steps."""
        optimizer = self.optimizer(self.parameter_groups(), lr=self.learning_rate)
        scheduler = schedule(optimizer, warmup_steps=self.warmup_steps, decay_steps=self.decay_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train(self, mode: bool = True) -> Self:
        """As torch, but what is frozen stays in eval mode: the tagger and the text encoder have dropout."""
        super().train(mode)
        for part in self.frozen_parts:
            getattr(self, part).eval()
        return self

    def setup(self, stage: str) -> None:
        """Name the frozen parts by hash, then settle buffers, precision, memory format, compilation."""
        self.hash_frozen()
        keep_buffers_local(self)
        if self.frozen_dtype != torch.float32:
            cast_frozen(self, self.frozen_dtype)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        if self.compile_networks:
            for network in (self.unet, self.controlnet, *self.vae.children()):
                network.compile()

    def _keys(self, batch: Batch) -> dict[str, Any]:
        return {"seed": self.seed, "epochs": batch["epoch"], "sample_ids": batch["sample_id"]}
