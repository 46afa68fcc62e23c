"""Stable Diffusion folders as diffusers lays them out, and SeeSR's networks on them, at a tiny size."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from seesr_pl.checkpoints.seesr import Networks
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.tiny.stack import TAGS
from seesr_pl.tiny.text import tiny_text_encoder, word_tokenizer


def stock_unet(seed: int) -> UNet2DConditionModel:
    """A UNet without RCA."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32, 48, 48),
        norm_num_groups=8,
        attention_head_dim=(2, 4, 6, 12),
        cross_attention_dim=32,
        use_linear_projection=True,
    )


def seesr_networks(seed: int) -> Networks:
    """What SeeSR makes of `stock_unet(seed)`."""
    unet = SeeSRUNet.from_unet(stock_unet(seed))
    return Networks(unet, SeeSRControlNet.from_unet(unet, conditioning_embedding_out_channels=(8, 12, 16, 24)))


def write_stable_diffusion(folder: Path, *, seed: int, scheduler: Any) -> None:
    """A whole folder with `stock_unet(seed)`."""
    tokenizer = word_tokenizer(TAGS, max_length=77)
    tokenizer.save_pretrained(folder / "tokenizer")
    tiny_text_encoder(tokenizer).save_pretrained(folder / "text_encoder")
    blocks = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    AutoencoderKL(
        down_block_types=blocks[0], up_block_types=blocks[1], block_out_channels=(8,) * 4, norm_num_groups=4
    ).save_pretrained(folder / "vae")
    stock_unet(seed).save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
