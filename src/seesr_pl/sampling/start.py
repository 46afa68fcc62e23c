"""The latents that a group of pictures starts from, with the chances of either recipe."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor

from seesr_pl.sampling.autoencoder import downscale_factor
from seesr_pl.sampling.denoising import StartFrom, start_latents
from seesr_pl.sampling.pictures import Recipe


def drawn_start(
    vae: AutoencoderKL,
    scheduler: Any,
    *,
    image: Float[Tensor, "b 3 H W"],
    num_channels: int,
    is_guided: bool,
    start_from: StartFrom,
    generator: list[torch.Generator] | None,
    recipe: Recipe,
    vae_tile: int | None,
) -> Float[Tensor, "b c h w"]:
    """`start_latents` of `image` in [0, 1], with noise from `generator`: one a picture, or None for torch's global one.

    Under `recipe="official"` the noise of the VAE's posterior comes from torch's global generator in either case.
    """
    side = downscale_factor(vae)
    shape = (image.shape[0], num_channels, image.shape[2] // side, image.shape[3] // side)
    noise = randn_tensor(shape, generator=generator, device=image.device)
    posterior_noise = None
    if start_from == "lq":
        official = recipe == "official"
        posterior_noise = _official_posterior_noise(noise, is_guided) if official else _like(noise, generator)
    return start_latents(
        vae, image, scheduler, noise, start_from=start_from, posterior_noise=posterior_noise, vae_tile=vae_tile
    )


def _like(noise: Tensor, generator: list[torch.Generator] | None) -> Tensor:
    return randn_tensor(noise.shape, generator=generator, device=noise.device)


def _official_posterior_noise(like: Tensor, is_guided: bool) -> Tensor:
    # Drawn for the doubled batch, of which the first half is used, and followed by a draw for nothing
    # (pipeline_seesr.py:988-993).
    rows = (2 if is_guided else 1) * like.shape[0]
    noise = torch.randn(rows, *like.shape[1:], device=like.device)[: like.shape[0]]
    torch.randint(1, (1,), device=like.device)
    return noise
