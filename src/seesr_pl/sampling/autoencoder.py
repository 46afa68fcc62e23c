"""Pictures in [0, 1] to scaled latents and back, in tiles where they are large."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

ENCODER_LIMIT = 1088
"""Longest side, in pixels, that the official code encodes whole (utils/vaehook.py; pipeline_seesr.py:183-202)."""
DECODER_LIMIT = 1968
"""Longest side, in pixels, that the official code decodes whole."""


@torch.no_grad()
def encode(
    vae: AutoencoderKL,
    images: Float[Tensor, "b 3 H W"],
    *,
    posterior_noise: Float[Tensor, "b c h w"] | None = None,
    tile: int | None = None,
) -> Float[Tensor, "b c h w"]:
    """Scaled latents of pictures in [0, 1]: the posterior's mean, or its sample with `posterior_noise`.

    Sides above `tile` pixels are encoded in blended tiles (diffusers' scheme, not the official one).
    """
    with _tiled(vae, tile):
        posterior = vae.encode((images * 2 - 1).to(vae.dtype)).latent_dist
    latents = posterior.mean
    if posterior_noise is not None:
        latents = latents + posterior.std * posterior_noise.to(latents)
    return latents * vae.config.scaling_factor


@torch.no_grad()
def decode(
    vae: AutoencoderKL, latents: Float[Tensor, "b c h w"], *, tile: int | None = None
) -> Float[Tensor, "b 3 H W"]:
    """Pictures in [0, 1], clamped, of scaled latents; sides above `tile` pixels in blended tiles."""
    with _tiled(vae, tile):
        images = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    return images.div_(2).add_(0.5).clamp_(0, 1)


def downscale_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent point on a side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@contextmanager
def _tiled(vae: AutoencoderKL, tile: int | None) -> Iterator[None]:
    if tile is None:
        yield
        return
    before = vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size
    vae.use_tiling = True
    vae.tile_latent_min_size = tile // downscale_factor(vae)
    vae.tile_sample_min_size = vae.tile_latent_min_size * downscale_factor(vae)
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = before
