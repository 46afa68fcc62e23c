"""SeeSR's second stage: the ControlNet and the representation cross-attention learn to denoise HQ latents."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from seesr_pl import keyed
from seesr_pl.annotations import Amount, Count, Fraction, NotNegative, within_limits
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import resize_bicubic, to_device, to_float
from seesr_pl.models.denoiser import Condition, embed, encode, latent_shape, predict, tokens
from seesr_pl.models.lora import add_lora, merge_lora
from seesr_pl.models.prompts import PromptStyle, TagPrompter, missing_prompt_model, prompter
from seesr_pl.models.ram import BICUBIC, RAM
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.models.tag_tokens import TagTokens
from seesr_pl.sampling.pipeline import Representation, SeeSRPipeline
from seesr_pl.training.compiling import Compiled, CompiledFrozen, begin_step, compile_frozen, compile_networks
from seesr_pl.training.frozen import PartlyFrozen, train_controlnet_and_rca
from seesr_pl.training.optim import schedule
from seesr_pl.types import Batch


class SeeSRDiffusion(PartlyFrozen):
    """Denoising of HQ latents under text, representation and LQ image; the defaults are the paper's.

    Args:
        stack: the networks; Stable Diffusion, the text encoder and the tagger stay frozen.
        seed: keys noise, timestep, posterior and prompt drop of each sample.
        learning_rate: constant after `warmup_steps`.
        warmup_steps: optimizer steps over which the learning rate rises linearly.
        decay_steps: optimizer steps over which it falls to zero along half a cosine; None keeps it constant.
        optimizer: called with the trainable parameters and `lr`.
        loss: maps float32 prediction and target (b, c, h, w) to one value per sample; None is the mean squared error.
        learning_rate_factors: by the start of parameter names, e.g. `controlnet.mid_block`; times `learning_rate`.
        prompt_drop_probability: share of samples whose text is empty (official `null_text_ratio`).
        tags: source of the text: "shards" is the batch's, the others are styles of `models.prompts`, on the HQ crop.
        prompt_model: of "classification" and "caption", a folder or a name on the Hugging Face hub.
        representation: of the LQ image: "dape" is RAM with its LoRA, "ram" without, "none" one token of zeros.
        rca: whether the representation cross-attention runs and trains.
        lora_rank: of a LoRA that trains in place of ControlNet and RCA, whose weights stay frozen; None trains these.
            For weights that are trained already: zero convolutions stay what they are.
        sampler: settings that differ from the official ones when the run restores images.
        gradient_checkpointing: recompute activations of both networks in the backward pass.
        compile: `torch.compile` of UNet and ControlNet: each as a whole, or the transformer blocks that repeat in them.
        compile_frozen: `torch.compile` of VAE, text encoder and tagger; "graphs" records the first two as CUDA graphs.
        channels_last: store convolution weights in that memory format.
        frozen_dtype: precision of linear and convolution weights that do not train; below float32 it must be the
            precision of the trainer's autocast.

    Raises ValueError where the stack's RAM has no LoRA and `tags` or `representation` asks for it.
    """

    frozen_parts: tuple[str, ...] = ("vae", "text_encoder", "unet", "ram")

    @within_limits
    def __init__(
        self,
        stack: SeeSRStack,
        *,
        seed: Amount = 0,
        learning_rate: NotNegative = 5e-5,
        warmup_steps: Amount = 0,
        decay_steps: Count | None = None,
        optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        learning_rate_factors: Mapping[str, float] | None = None,
        prompt_drop_probability: Fraction = 0.5,
        tags: PromptStyle | Literal["shards"] = "ram",
        prompt_model: str | None = None,
        representation: Representation = "dape",
        rca: bool = True,
        lora_rank: Count | None = None,
        sampler: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        compile: Compiled = "none",
        compile_frozen: CompiledFrozen = "none",
        channels_last: bool = False,
        frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        super().__init__(frozen_dtype=frozen_dtype)
        _require_lora(stack.ram, needs_lora=rca and representation == "dape")
        self.vae: Any = stack.vae
        self.text_encoder, self.tokenizer = stack.text_encoder, stack.tokenizer
        self.unet, self.controlnet, self.ram = stack.unet, stack.controlnet, stack.ram
        self.scheduler: Any = stack.scheduler
        self.seed, self.learning_rate, self.warmup_steps, self.optimizer = seed, learning_rate, warmup_steps, optimizer
        self.decay_steps, self.prompt_drop_probability, self.tags = decay_steps, prompt_drop_probability, tags
        self.loss, self.learning_rate_factors = loss or mean_squared_error, dict(learning_rate_factors or {})
        self.sampler, self.prompt_model = dict(sampler or {}), prompt_model
        self.prompter = None if tags == "shards" else prompter(tags, ram=stack.ram, model=prompt_model)
        self.tag_tokens = TagTokens(stack.tokenizer, stack.ram.tag_names) if tags in ("ram", "dape") else None
        self.representation, self.rca = representation, rca
        self.compiled, self.compiled_frozen, self.channels_last = compile, compile_frozen, channels_last
        self.val_loss = MeanMetric()
        self.requires_grad_(False)
        train_controlnet_and_rca(self.unet, self.controlnet, rca=rca)
        if lora_rank is not None:
            add_lora(self.unet, self.controlnet, rank=lora_rank, rca=rca)
            self.frozen_parts = (*self.frozen_parts, "controlnet")  # all but the LoRA, which a checkpoint holds
        self.train()
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            self.controlnet.enable_gradient_checkpointing()

    @classmethod
    def missing_files(cls, tags: str = "ram", prompt_model: str | None = None) -> list[MissingFile]:
        """Return the model of the prompt style `tags`, if it is not on this machine."""
        return missing_prompt_model(tags, prompt_model, argument="prompt_model")

    def merge_lora(self) -> None:
        """Make the LoRA, if there is one, part of the weights: for a pipeline, and for what others read."""
        for network in (self.unet, self.controlnet):
            merge_lora(network)

    @property
    def stack(self) -> SeeSRStack:
        """The networks, as they are now."""
        return SeeSRStack(
            self.vae, self.text_encoder, self.tokenizer, self.unet, self.controlnet, self.ram, self.scheduler
        )

    def pipeline(self) -> SeeSRPipeline:
        """Return a pipeline of the networks as they are now, with the text and representation that training uses.

        Tags are those of the LQ images, from DAPE if training uses its representation (test_seesr.py:137-145).
        """
        return SeeSRPipeline(
            *self.stack,
            representation=self.representation,
            prompter=self.tags if self.tags in ("none", "classification", "caption") else "own",
            prompter_model=self.prompt_model,
            sampler=self.sampler,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Denoise HQ latents under text, representation and LQ image (paper, section 3.3; train_seesr.py:960-1035).

        Random draws are keyed by the sample: they do not depend on device, rank or batch. Returns the scalar `loss`,
        and for each sample `losses` (b) and `timesteps` (b).
        """
        if self.compiled_frozen == "graphs":
            begin_step()
        keys = self._keys(batch)
        hq = to_float(batch["hq"])

        # First, since its few large operations keep a GPU busy while the many small ones of the condition are launched:
        # z_0, a sample of the VAE's posterior, and z_t, its mixture with noise.
        shape = latent_shape(self.vae, hq)
        posterior_noise = to_device(keyed.normal(shape, purpose="posterior", **keys), self.device)
        latents = encode(self.vae, hq, posterior_noise=posterior_noise)
        noise = to_device(keyed.normal(shape, purpose="noise", **keys), self.device)
        timesteps = keyed.integers(self.scheduler.config.num_train_timesteps, purpose="timestep", **keys)
        timesteps = to_device(timesteps, self.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)

        condition = self.condition(hq, batch)
        prediction = predict(self.unet, self.controlnet, noisy, timesteps, condition)
        target = prediction_target(self.scheduler, latents, noise, timesteps)
        losses = self.loss(prediction.float(), target.float())

        outputs = {"loss": losses.mean(), "losses": losses.detach(), "timesteps": timesteps}
        self.micro_outputs.append({name: value.detach() for name, value in outputs.items()})
        return outputs

    def sample_facts(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and `timestep` (b) of the samples in a training step."""
        step = self.training_step(batch, 0)
        return {"loss": step["losses"], "timestep": step["timesteps"]}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the loss of held-out images; a sample has the same noise and timestep at every validation."""
        self.val_loss.update(self.training_step(batch, batch_idx)["losses"])
        self.micro_outputs.clear()

    def on_validation_epoch_end(self) -> None:
        """Log the mean over the images of all ranks; a rank may have none."""
        self.log("val/loss", self.val_loss.compute())
        self.val_loss.reset()

    @torch.no_grad()
    def condition(self, hq: Float[Tensor, "b 3 h w"], batch: Batch) -> Condition:
        """Return tags of the HQ crop as text, the representation of the LQ image, and the LQ image at HQ size."""
        image = resize_bicubic(to_float(batch["lq"]), (hq.shape[-2], hq.shape[-1]))
        text = embed(self.tokenizer, self.text_encoder, self.prompt_tokens(hq, batch))
        if not self.rca:
            return Condition(text, None, image)
        if self.representation == "none":
            return Condition(text, image.new_zeros(len(image), 1, self.ram.config.representation_dim), image)
        # Resized as in official training (paired_dataset.py:86-90).
        representation = self.ram.represent(image, adapter=self.representation == "dape", resize=BICUBIC)
        return Condition(text, representation, image)

    def prompt_tokens(self, hq: Float[Tensor, "b 3 h w"], batch: Batch) -> Int[Tensor, "b n"]:
        """Return the tokens of each sample's text; those that the keyed draw drops are empty, and are not tagged.

        Texts end with a comma, as in official training (utils_data/make_tags.py:71-73); those of shards are unchanged.
        Tags stay on the device; "classification" and "caption" are read from it, which waits for it.
        """
        draws = keyed.uniform(purpose="prompt_drop", **self._keys(batch))
        kept = (draws >= self.prompt_drop_probability).nonzero().flatten()
        if not len(kept) or self.tags == "none":
            return tokens(self.tokenizer, [""] * len(hq))
        if self.prompter is None:
            chosen = set(kept.tolist())
            return tokens(self.tokenizer, [text if row in chosen else "" for row, text in enumerate(batch["tags"])])
        places = to_device(kept, self.device)
        crops = hq.index_select(0, places)
        if isinstance(self.prompter, TagPrompter) and self.tag_tokens is not None:
            told = self.tag_tokens(self.prompter.mask(crops))
        else:
            told = to_device(tokens(self.tokenizer, [f"{text}," for text in self.prompter(crops)]), self.device)
        empty = to_device(tokens(self.tokenizer, [""]), self.device).expand(len(hq), -1)
        return empty.index_copy(0, places, told)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what trains, a group for each factor of `learning_rate_factors`, parameters without a factor first."""
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                factors = [
                    factor for start, factor in self.learning_rate_factors.items() if name.startswith(f"{start}.")
                ]
                groups.setdefault(factors[0] if factors else 1.0, []).append(parameter)
        return [{"params": members, "lr": factor * self.learning_rate} for factor, members in groups.items()]

    def configure_optimizers(self) -> Any:
        """Return an optimizer of `parameter_groups` and its schedule, which counts optimizer steps."""
        optimizer = self.optimizer(self.parameter_groups(), lr=self.learning_rate)
        scheduler = schedule(optimizer, warmup_steps=self.warmup_steps, decay_steps=self.decay_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train(self, mode: bool = True) -> Self:
        """Set the mode as torch does, but keep frozen parts in eval mode: tagger and text encoder have dropout."""
        super().train(mode)
        for part in self.frozen_parts:
            getattr(self, part).eval()
        return self

    def setup(self, stage: str) -> None:
        """Prepare the frozen weights, then memory format and compilation."""
        super().setup(stage)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        compile_networks((self.unet, self.controlnet), self.compiled)
        compile_frozen(self.stack, self.compiled_frozen)

    def _keys(self, batch: Batch) -> dict[str, Any]:
        return {"seed": self.seed, "epochs": batch["epoch"], "sample_ids": batch["sample_id"]}


def mean_squared_error(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Return the mean squared error of each sample (train_seesr.py:1029-1035)."""
    return F.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))


def prediction_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return the target of the scheduler's `prediction_type`: noise (SD-2-base), velocity or clean latents."""
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    return {"epsilon": noise, "sample": latents}[kind]


def _require_lora(ram: RAM, *, needs_lora: bool) -> None:
    if needs_lora and ram.lora_rank is None:
        raise ValueError(
            "representation=dape needs a RAM with DAPE's LoRA, and this one has none (it would silently be plain "
            "RAM's): give the stack dape=PATH (a file, or a run of experiment=dape), or set representation=ram"
        )
