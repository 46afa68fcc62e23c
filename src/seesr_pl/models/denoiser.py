"""The verbs on SeeSR's networks, which training and sampling share: embed, encode, predict, decode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from seesr_pl.imaging.tensors import to_device
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet

ENCODER_LIMIT = 1088
"""Longest side, in pixels, that the official code encodes whole (utils/vaehook.py; pipeline_seesr.py:183-202)."""
DECODER_LIMIT = 1968
"""Longest side, in pixels, that the official code decodes whole."""
DEFAULT_TILE = 1024
"""Side in pixels of a VAE tile where `tile` is None and an image exceeds a limit."""

_TILING = ("use_tiling", "tile_latent_min_size", "tile_sample_min_size")


class Condition(NamedTuple):
    """What a prediction depends on besides the latent, in the type and on the device of the networks.

    `text` is (b, n, d); `representation` (b, m, 512), or None to skip RCA; `image` the LQ image enlarged to the size of
    the result, (b, 3, h, w) in [0, 1]. The caches of sampling know these tensors by identity: cast them before a
    Condition is made.
    """

    text: Float[Tensor, "b n d"]
    representation: Float[Tensor, "b m 512"] | None
    image: Float[Tensor, "b 3 h w"]


@torch.no_grad()
def embed(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompts: Sequence[str] | Int[Tensor, "b n"]
) -> Float[Tensor, "b n d"]:
    """Return the text encoder's last hidden states of `prompts`, texts or their `tokens`."""
    ids = prompts if isinstance(prompts, Tensor) else tokens(tokenizer, prompts)
    return text_encoder(to_device(ids, text_encoder.device))[0]


def tokens(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Int[Tensor, "b n"]:
    """Return the tokens of `prompts`, padded and cut off to the tokenizer's length (77), on the CPU."""
    return tokenizer(
        list(prompts),
        max_length=tokenizer.model_max_length,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    ).input_ids


@torch.no_grad()
def encode(
    vae: AutoencoderKL,
    images: Float[Tensor, "b 3 h w"],
    *,
    posterior_noise: Float[Tensor, "b c h8 w8"] | None = None,
    tile: int | None = None,
) -> Float[Tensor, "b c h8 w8"]:
    """Return scaled float32 latents, of about unit variance, of `images` in [0, 1] (train_seesr.py:968).

    Args:
        vae: its `scaling_factor` applies.
        images: float, sides a multiple of the VAE's factor (8).
        posterior_noise: standard normal noise with which the posterior is sampled; None takes the posterior's mean.
        tile: longest side in pixels that is encoded whole; None is the official limit. Larger images are encoded in
            diffusers' blended tiles. The official tiles share normalization statistics: results differ above the limit.
    """
    with _tiled(vae, tile, side=max(images.shape[-2:]), limit=ENCODER_LIMIT):
        posterior = vae.encode((images * 2).sub_(1).to(vae.dtype)).latent_dist
    latents = posterior.mean.float()
    if posterior_noise is not None:
        latents = latents + posterior.std.float() * posterior_noise
    return latents * _config(vae).scaling_factor


def predict(
    unet: SeeSRUNet,
    controlnet: SeeSRControlNet,
    latents: Float[Tensor, "b c h w"],
    timesteps: Int[Tensor, " b"] | Int[Tensor, ""],
    condition: Condition,
    *,
    conditioning_scale: float = 1.0,
) -> Float[Tensor, "b c h w"]:
    """Return the UNet's prediction for noisy `latents`, with the ControlNet's residuals times `conditioning_scale`."""
    text, representation, image = condition
    down, middle = controlnet(
        latents,
        timesteps,
        text,
        image,
        conditioning_scale=conditioning_scale,
        image_encoder_hidden_states=representation,
        return_dict=False,
    )
    return unet(
        latents,
        timesteps,
        text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        image_encoder_hidden_states=representation,
        return_dict=False,
    )[0]


@torch.no_grad()
def decode(
    vae: AutoencoderKL, latents: Float[Tensor, "b c h w"], *, tile: int | None = None
) -> Float[Tensor, "b 3 H W"]:
    """Return images, clamped to [0, 1], of scaled latents; `tile` as in `encode`, with the decoder's official limit."""
    with _tiled(vae, tile, side=max(latents.shape[-2:]) * downscale_factor(vae), limit=DECODER_LIMIT):
        images = vae.decode((latents / _config(vae).scaling_factor).to(vae.dtype)).sample
    return images.div_(2).add_(0.5).clamp_(0, 1)


def downscale_factor(vae: AutoencoderKL) -> int:
    """Return how many pixels a latent point spans along a side (8 for Stable Diffusion)."""
    return 2 ** (len(_config(vae).block_out_channels) - 1)


def latent_shape(vae: AutoencoderKL, images: Float[Tensor, "b 3 h w"]) -> tuple[int, int, int]:
    """Return (channels, height, width) of the latent of each of `images`."""
    side = downscale_factor(vae)
    return _config(vae).latent_channels, images.shape[-2] // side, images.shape[-1] // side


def _config(vae: AutoencoderKL) -> Any:
    return vae.config


@contextmanager
def _tiled(vae: AutoencoderKL, tile: int | None, *, side: int, limit: int) -> Iterator[None]:
    own = tile is None and getattr(vae, "use_tiling", False)  # that of the user, who has asked for it
    if own or side <= (limit if tile is None else tile):
        yield
        return
    before = {name: getattr(vae, name) for name in _TILING if hasattr(vae, name)}
    vae.enable_tiling()
    vae.tile_latent_min_size = (tile or DEFAULT_TILE) // downscale_factor(vae)
    vae.tile_sample_min_size = vae.tile_latent_min_size * downscale_factor(vae)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
