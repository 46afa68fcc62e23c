"""From a start latent to a restored latent: the scheduler, the start and the loop (pipeline_seesr.py at 8edecc7)."""

import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Tensor

from seesr_pl.models.denoiser import downscale_factor, encode
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.sampling.guidance import Guidance, Tiling, exact_caches

Generators = torch.Generator | list[torch.Generator]
OnStep = Callable[[int, Tensor, Tensor], Tensor]
"""Called after each step with (index, timestep, latents); returns the latents to go on with."""
_SCHEDULERS = {
    "ddpm": DDPMScheduler,
    "ddim": DDIMScheduler,
    "unipc": UniPCMultistepScheduler,
    "dpmpp": DPMSolverMultistepScheduler,
}


class Scheduler(Protocol):
    """The part of a diffusers scheduler that the loop uses; any scheduler with a noise schedule has it."""

    init_noise_sigma: Any
    alphas_cumprod: Tensor
    timesteps: Tensor
    set_timesteps: Callable[..., None]
    scale_model_input: Callable[..., Tensor]
    step: Callable[..., Any]


@torch.no_grad()
def denoise(
    unet: SeeSRUNet,
    controlnet: SeeSRControlNet,
    scheduler: Scheduler,
    *,
    latents: Float[Tensor, "b c h w"],
    prompt_embeds: Float[Tensor, "n 77 d"],
    representation: Float[Tensor, "b m 512"],
    image: Float[Tensor, "b 3 H W"],
    num_inference_steps: int,
    guidance_scale: float,
    conditioning_scale: float,
    tile: int,
    overlap: int,
    generator: Generators | None,
    guidance_fraction: float = 1.0,
    guidance_in_one_batch: bool = True,
    tile_batch_size: int = 4,
    cache: bool = True,
    on_step: OnStep | None = None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Float[Tensor, "b c h w"]:
    """Run the scheduler from `latents` and return the last latents.

    `prompt_embeds` is [negative; positive] (2b rows) when `guidance_scale` > 1, else (b rows). `image` is the enlarged
    LQ image in [0, 1], a whole number of times as large as the latents. Latents of more than tile^2 points are
    predicted in square tiles (latent units). `generator` may be a list, one for each image. No step begins once
    `is_interrupted()`. The other settings are those of `Sampling`. Raises ValueError where sizes or rows do not fit
    together.
    """
    is_guided = guidance_scale > 1
    _check(latents, prompt_embeds, representation, image, is_guided)
    predict = Guidance(
        unet,
        controlnet,
        texts=prompt_embeds.chunk(2 if is_guided else 1),
        representation=representation,
        image=image,
        conditioning_scale=conditioning_scale,
        tiling=Tiling(tile, overlap, tile_batch_size),
        in_one_batch=guidance_in_one_batch,
    )
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    num_guided = math.ceil(guidance_fraction * len(scheduler.timesteps)) if is_guided else 0
    draws = _draws(scheduler, generator)
    with exact_caches(unet, controlnet, hints=not predict.is_tiled(latents)) if cache else nullcontext():
        for index, timestep in enumerate(scheduler.timesteps):
            if is_interrupted():
                break
            scale = guidance_scale if index < num_guided else 1.0
            prediction = predict(scheduler.scale_model_input(latents, timestep), timestep, scale)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False, **draws)[0]
            if on_step is not None:
                latents = on_step(index, timestep, latents)
    return latents


def start_latents(
    vae: AutoencoderKL,
    image: Float[Tensor, "b 3 H W"],
    scheduler: Scheduler,
    noise: Float[Tensor, "b c h w"],
    *,
    start_from: Literal["lq", "noise"],
    posterior_noise: Float[Tensor, "b c h w"] | None = None,
    vae_tile: int | None = None,
) -> Float[Tensor, "b c h w"]:
    """Return the latent to denoise: `noise`, or the encoded LQ `image` under nearly all of `noise` (LR embedding, LRE).

    `image` is the enlarged image in [0, 1]. `posterior_noise` samples the VAE's posterior; None takes its mean.
    The image is noised to the scheduler's last training timestep, although the first step denoises an earlier one:
    so does the official code (pipeline_seesr.py:988-993). Sides of more than `vae_tile` pixels are encoded in tiles.
    Raises ValueError for another `start_from`.
    """
    if start_from == "noise":
        return noise * scheduler.init_noise_sigma
    if start_from != "lq":
        raise ValueError(f"start_from={start_from!r} must be 'lq' or 'noise'")
    latents = encode(vae, image, posterior_noise=posterior_noise, tile=vae_tile).to(noise.dtype)
    signal = scheduler.alphas_cumprod[-1].to(latents)
    return (signal**0.5 * latents + (1 - signal) ** 0.5 * noise) * scheduler.init_noise_sigma


def drawn_start(
    vae: AutoencoderKL,
    scheduler: Any,
    *,
    image: Float[Tensor, "b 3 H W"],
    num_channels: int,
    is_guided: bool,
    start_from: Literal["lq", "noise"],
    generator: list[torch.Generator] | None,
    recipe: Literal["default", "official"],
    vae_tile: int | None,
) -> Float[Tensor, "b c h w"]:
    """Return `start_latents` of `image` in [0, 1], with noise drawn from `generator`.

    `generator` holds one for each image; None is torch's global one.

    Under `recipe="official"` the noise of the VAE's posterior comes from torch's global generator in either case.
    """
    side = downscale_factor(vae)
    shape = (image.shape[0], num_channels, image.shape[2] // side, image.shape[3] // side)
    noise = randn_tensor(shape, generator=generator, device=image.device)
    posterior_noise = None
    if start_from == "lq" and recipe == "official":
        posterior_noise = _official_posterior_noise(noise, is_guided)
    elif start_from == "lq":
        posterior_noise = randn_tensor(shape, generator=generator, device=image.device)
    return start_latents(
        vae, image, scheduler, noise, start_from=start_from, posterior_noise=posterior_noise, vae_tile=vae_tile
    )


def fresh_scheduler(scheduler: Any, name: Literal["own", "ddpm", "ddim", "unipc", "dpmpp"]) -> Any:
    """Return a new scheduler of the named kind with the noise schedule of `scheduler`; "own" keeps its kind.

    UniPC (Zhao et al., 2023) and DPM-Solver++ (Lu et al., 2022) need about 20 steps where DDPM needs 50.
    """
    cls = type(scheduler) if name == "own" else _SCHEDULERS[name]
    return cls.from_config(scheduler.config)


def _official_posterior_noise(like: Tensor, is_guided: bool) -> Tensor:
    # Drawn for the doubled batch, of which the first half is used, and followed by a draw that nothing uses
    # (pipeline_seesr.py:988-993).
    rows = (2 if is_guided else 1) * like.shape[0]
    noise = torch.randn(rows, *like.shape[1:], device=like.device)[: like.shape[0]]
    torch.randint(1, (1,), device=like.device)
    return noise


def _draws(scheduler: Scheduler, generator: Generators | None) -> dict[str, Generators | None]:
    # Deterministic schedulers take no generator.
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": generator} if takes_generator else {}


def _check(latents: Tensor, prompt_embeds: Tensor, representation: Tensor, image: Tensor, is_guided: bool) -> None:
    batch, _, height, width = latents.shape
    factor = image.shape[-1] // width
    if factor < 1 or image.shape[-2:] != (height * factor, width * factor):
        raise ValueError(
            f"image is {tuple(image.shape[-2:])} pixels; its sides must be one whole number of times those of the "
            f"latents, {(height, width)}"
        )
    if image.shape[0] != batch or representation.shape[0] != batch:
        raise ValueError(
            f"image ({image.shape[0]}) and representation ({representation.shape[0]}) must be given once for each of "
            f"the {batch} latents; guidance doubles them itself"
        )
    rows = 2 * batch if is_guided else batch
    if prompt_embeds.shape[0] != rows:
        order = "[negative; positive]" if is_guided else "the positive ones alone"
        raise ValueError(f"prompt_embeds has {prompt_embeds.shape[0]} rows and needs {rows}: {order}")
