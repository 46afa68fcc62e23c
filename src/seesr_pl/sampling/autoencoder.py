"""Pictures in [0, 1] to scaled latents and back, in tiles where they are large."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

ENCODER_LIMIT = 1088
"""Longest side, in pixels, that the official code encodes whole (utils/vaehook.py; pipeline_seesr.py:183-202)."""
DECODER_LIMIT = 1968
"""Longest side, in pixels, that the official code decodes whole."""
DEFAULT_TILE = 1024


@torch.no_grad()
def encode(
    vae: AutoencoderKL,
    images: Float[Tensor, "b 3 H W"],
    *,
    posterior_noise: Float[Tensor, "b c h w"] | None = None,
    tile: int | None = None,
) -> Float[Tensor, "b c h w"]:
    """Scaled latents of pictures in [0, 1]: the posterior's mean, or its sample with `posterior_noise`.

    Sides above `tile` pixels are encoded in blended tiles by diffusers; None keeps to the official limit. Official
    tiles are another scheme (shared normalisation), so results above the limit differ from the official ones.
    """
    with _tiled(vae, tile, side=max(images.shape[-2:]), limit=ENCODER_LIMIT):
        posterior = vae.encode((images * 2).sub_(1).to(vae.dtype)).latent_dist
    latents = posterior.mean
    if posterior_noise is not None:
        latents = latents + posterior.std * posterior_noise.to(latents)
    return latents * _config(vae).scaling_factor


@torch.no_grad()
def decode(
    vae: AutoencoderKL, latents: Float[Tensor, "b c h w"], *, tile: int | None = None
) -> Float[Tensor, "b 3 H W"]:
    """Pictures in [0, 1], clamped, of scaled latents; tiles as in `encode`."""
    with _tiled(vae, tile, side=max(latents.shape[-2:]) * downscale_factor(vae), limit=DECODER_LIMIT):
        images = vae.decode((latents / _config(vae).scaling_factor).to(vae.dtype)).sample
    return images.div_(2).add_(0.5).clamp_(0, 1)


def downscale_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent point on a side."""
    return 2 ** (len(_config(vae).block_out_channels) - 1)


def _config(vae: AutoencoderKL) -> Any:
    return vae.config


@contextmanager
def _tiled(vae: AutoencoderKL, tile: int | None, *, side: int, limit: int) -> Iterator[None]:
    if side <= (limit if tile is None else tile):
        yield
        return
    vae.enable_tiling()
    vae.tile_latent_min_size = (tile or DEFAULT_TILE) // downscale_factor(vae)
    vae.tile_sample_min_size = vae.tile_latent_min_size * downscale_factor(vae)
    try:
        yield
    finally:
        vae.disable_tiling()
