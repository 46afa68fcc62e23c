"""What SeeSR's networks are given: a picture's latents, its tags as text, its representation, its low-quality image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from seesr_pl.models.prompts import Prompter
from seesr_pl.models.ram import RAM, ram_pixel_values
from seesr_pl.sampling.run_pipeline import Representation


class Condition(NamedTuple):
    """Text (b, n, d), representation (b, m, 512) or None without RCA, LQ image (b, 3, h, w) in [0, 1] at HQ size."""

    text: Tensor
    representation: Tensor | None
    image: Tensor


def training_texts(prompter: Prompter | None, images: Float[Tensor, "b 3 h w"], tags: Sequence[str]) -> Sequence[str]:
    """What `prompter` says of HQ images, ended by a comma as official training does (utils_data/make_tags.py:71-73).

    Sampling puts a comma there too. Without a prompter `tags` are the texts as they are.
    """
    return tags if prompter is None else [f"{text}," for text in prompter(images)]


def require_adapter(ram: RAM, kind: Representation) -> None:
    """Raises ValueError where `kind` is `dape` and `ram` has no LoRA: it would silently be plain RAM's."""
    if kind == "dape" and ram.lora_rank is None:
        raise ValueError(
            "representation=dape needs a RAM with DAPE's LoRA, and this one has none: "
            "give the stack dape=PATH, or set representation=ram"
        )


@torch.no_grad()
def text_embeddings(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str]
) -> Float[Tensor, "b n d"]:
    """The text encoder's last hidden states; what does not fit into its positions is cut off."""
    tokens = tokenizer(
        list(prompts),
        max_length=tokenizer.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids.to(text_encoder.device))[0]


@torch.no_grad()
def soft_prompt(ram: RAM, images: Float[Tensor, "b 3 h w"], kind: Representation) -> Float[Tensor, "b m 512"]:
    """The representation of upsampled LQ images, resized as in official training (paired_dataset.py:86-90)."""
    if kind == "none":
        return images.new_zeros(len(images), 1, ram.config.representation_dim)
    pixels = ram_pixel_values(images, size=ram.config.image_size, mode="bicubic")
    if kind == "dape":
        return ram.representation(pixels)
    with ram.disable_adapter():
        return ram.representation(pixels)


def prediction_target(scheduler: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the scheduler's `prediction_type` asks for: noise (SD-2-base), velocity or clean latents."""
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    return {"epsilon": noise, "sample": latents}[kind]


def sampled_latents(
    posterior: DiagonalGaussianDistribution, noise: Float[Tensor, "b c h w"], scaling_factor: float
) -> Float[Tensor, "b c h w"]:
    """The sample of a VAE's posterior that standard normal `noise` makes, in float32 and of about unit variance."""
    return (posterior.mean.float() + posterior.std.float() * noise) * scaling_factor
