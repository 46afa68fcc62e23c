"""The tiny stack: every network of SeeSR as its real class at a size that two CPU cores can train in minutes.

It departs from the paper in four ways, all of them here and in the `tiny_*` modules beside: a fixed latent of factor 4
(`tiny_latent`), an LQ skip (`tiny_networks`), prediction of the clean latent instead of the noise, and RCA that
starts as the identity.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn

from seesr_pl.models.ram import RAM
from seesr_pl.models.ram_networks import RAMConfig
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.models.tiny_latent import DCTAutoencoder
from seesr_pl.models.tiny_networks import tiny_controlnet, tiny_unet
from seesr_pl.models.tiny_text import PROMPT_WORDS, tiny_text_encoder, word_tokenizer

TAGS = (
    *("dark", "bright", "gray", "vivid", "red", "orange", "yellow", "green", "blue", "brown", "white", "black"),
    *("smooth", "textured", "lines", "contrast"),
    *("sky", "cloud", "sun", "mountain", "rock", "grass", "leaf", "tree", "flower", "water", "sand", "snow"),
    *("wood", "brick", "stone", "metal", "cloth", "wall", "fur", "face", "skin", "hair", "text", "wheel", "star"),
)
RAM_CONFIG = RAMConfig(
    image_size=96,
    embed_dim=32,
    depths=(2, 2, 2),
    num_heads=(2, 4, 8),
    window_size=6,
    head_hidden_size=64,
    head_intermediate_size=128,
    head_num_heads=4,
    head_num_layers=2,
)


def tiny_stack(*, seed: int = 0) -> SeeSRStack:
    """The whole stack in eval mode, equal for equal `seed`; its RAM has no LoRA."""
    with _seeded(seed):
        ram = tiny_ram(seed=seed)
        tokenizer = word_tokenizer((*ram.tag_names, *PROMPT_WORDS))
        text_encoder = tiny_text_encoder(tokenizer)
        vae = DCTAutoencoder()
        unet = tiny_unet(latent_channels=vae.config.latent_channels, text_width=text_encoder.config.hidden_size)
        controlnet = tiny_controlnet(unet).eval()
        return SeeSRStack(vae, text_encoder, tokenizer, unet, controlnet, ram, tiny_scheduler())


def tiny_ram(*, tags: Sequence[str] = TAGS, seed: int = 0) -> RAM:
    """A RAM for 96x96 pixels with a representation of 37 tokens (b, 37, 512), random but equal for equal `seed`."""
    with _seeded(seed):
        ram = RAM(RAM_CONFIG, tags, [0.5] * len(tags))
        nn.init.normal_(ram.label_embed, std=0.5)
        return ram


def tiny_scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule for a network that predicts the clean latent and starts at the last step."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=False,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
