"""SeeSR's networks with an LQ skip, the departure that lets tiny networks learn in minutes.

The UNet's output is a correction of the LQ latent. The latent is passed as one more ControlNet residual, the first of
the list, so guidance, tiles and `conditioning_scale` treat it as the other residuals, and the core needs no change.
The ControlNet also starts from the LQ latent, and both networks see the noisy latent weighted by how much signal it
has: at the first sampling step it is pure noise, which a network of this size takes long to learn to ignore.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetOutput
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.tiny.latent import BLOCK, SCALING_FACTOR, analysis_kernels

WIDTHS = (48, 64, 96)
BETA_START, BETA_END = 0.00085, 0.05
"""Of a linear noise schedule of 1000 steps; Stable Diffusion's ends at 0.012. Most training is then near the start."""


class LQSkipControlNet(SeeSRControlNet):
    """Starts from the latent of the LQ image, and returns it times `conditioning_scale` before the usual residuals."""

    def forward(  # type: ignore[override]  # fewer arguments: the toy needs no more
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        conditioning_scale: float = 1.0,
        *,
        image_encoder_hidden_states: Tensor | None = None,
        return_dict: bool = True,
    ) -> ControlNetOutput | tuple[tuple[Tensor, ...], Tensor]:
        """Run as `SeeSRControlNet`, with one more residual; `controlnet_cond` is 4 times as large as `sample`."""
        latent = lq_latent(controlnet_cond)
        residuals, middle = super().forward(
            latent + signal(timestep, like=sample) * (sample - latent),
            timestep,
            encoder_hidden_states,
            controlnet_cond,
            conditioning_scale,
            image_encoder_hidden_states=image_encoder_hidden_states,
            return_dict=False,
        )
        residuals = (conditioning_scale * latent, *residuals)
        return ControlNetOutput(cast(Any, residuals), middle) if return_dict else (residuals, middle)


class LQSkipUNet(SeeSRUNet):
    """Adds the first ControlNet residual, the LQ latent, to its output; without a ControlNet it is a plain UNet."""

    def forward(  # type: ignore[override]  # fewer arguments: the toy needs no more
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        *,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        image_encoder_hidden_states: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[Tensor, ...]:
        """Run as `SeeSRUNet`; residuals, if given, are those of `LQSkipControlNet`."""
        skip, *residuals = down_block_additional_residuals or (0,)
        (output,) = super().forward(
            signal(timestep, like=sample) * sample,
            timestep,
            encoder_hidden_states,
            down_block_additional_residuals=tuple(residuals) or None,
            mid_block_additional_residual=mid_block_additional_residual,
            image_encoder_hidden_states=image_encoder_hidden_states,
            return_dict=False,
        )
        return UNet2DConditionOutput(sample=output + skip) if return_dict else (output + skip,)


def signal(timestep: Tensor | float | int, *, like: Tensor) -> Tensor:
    """Return alpha-bar (Ho et al., 2020), the share of signal in the variance at `timestep`, (b or 1, 1, 1, 1)."""
    shares = torch.cumprod(1 - torch.linspace(BETA_START, BETA_END, 1000), dim=0).to(like)
    return shares[torch.as_tensor(timestep, device=like.device).long().reshape(-1)].reshape(-1, 1, 1, 1)


def lq_latent(image: Tensor) -> Tensor:
    """Return the latents of images (b, 3, h, w) in [0, 1], as `DCTAutoencoder` encodes and scales it."""
    kernels = analysis_kernels().to(image)
    return SCALING_FACTOR * F.conv2d(2 * image - 1, kernels, stride=BLOCK)


def tiny_unet(*, latent_channels: int, text_width: int) -> LQSkipUNet:
    """Return a UNet of 4.5 M parameters (RCA 1.6 M), with random weights."""
    return LQSkipUNet(
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
        attention_head_dim=(2, 2, 4),
        cross_attention_dim=text_width,
        use_linear_projection=True,
    ).eval()


def tiny_controlnet(unet: LQSkipUNet) -> LQSkipControlNet:
    """Return a ControlNet that copies the encoder of `unet`; its stem has stride 4, as the latent has."""
    return LQSkipControlNet.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 48))
