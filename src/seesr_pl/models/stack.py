"""The networks that SeeSR is made of, as one value."""

from typing import NamedTuple

from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPTokenizer

from seesr_pl.models.ram import RAM
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


class SeeSRStack(NamedTuple):
    """Stable Diffusion's frozen parts, SeeSR's two networks, and the tagger; `ram` holds DAPE's LoRA where given."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: SeeSRUNet
    controlnet: SeeSRControlNet
    ram: RAM
    scheduler: SchedulerMixin
