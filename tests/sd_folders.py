"""Stable Diffusion folders as diffusers lays them out, and SeeSR's networks on them, at a tiny size."""

from pathlib import Path
from typing import Any, NamedTuple

import stacks
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

from seesr_pl.checkpoints import dape_state_dict, ram_state_dict
from seesr_pl.checkpoints.seesr import Networks, export_official
from seesr_pl.checkpoints.stack import byte_tokenizer
from seesr_pl.models.ram import RAM
from seesr_pl.models.ram_lists import TAG_LIST, THRESHOLDS
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet


def stock_unet(seed: int) -> UNet2DConditionModel:
    """A UNet without RCA."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(**stacks.UNET)


def seesr_networks(seed: int) -> Networks:
    """What SeeSR makes of `stock_unet(seed)`."""
    unet = SeeSRUNet.from_unet(stock_unet(seed))
    return Networks(unet, SeeSRControlNet.from_unet(unet, conditioning_embedding_out_channels=(8, 12, 16, 24)))


def write_stable_diffusion(folder: Path, *, seed: int, scheduler: Any) -> None:
    """A whole folder with `stock_unet(seed)`."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    stacks.small_text_encoder(tokenizer).save_pretrained(folder / "text_encoder")
    AutoencoderKL(**stacks.VAE).save_pretrained(folder / "vae")
    stock_unet(seed).save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")


def write_tagger(folder: Path, ram: RAM) -> None:
    """RAM and DAPE in the published formats, with the lists beside them."""
    torch.save({"model": ram_state_dict(ram), "optimizer": {}, "epoch": 4}, folder / "ram_swin_large_14m.pth")
    torch.save(dape_state_dict(ram), folder / "DAPE.pth")
    (folder / TAG_LIST).write_text("\n".join(ram.tag_names))
    (folder / THRESHOLDS).write_text("".join(f"{value}\n" for value in ram.thresholds.tolist()))


class Published(NamedTuple):
    """Where the published files lie, and what SeeSR's and the tagger's must give back."""

    base: Path
    seesr: Path
    ram: Path
    dape: Path
    networks: Networks
    tagger: RAM


def write_published(folder: Path, *, tagger: RAM) -> Published:
    """All that `from_official` reads; the base has another UNet than SeeSR's folder, as sd-turbo has."""
    write_stable_diffusion(folder / "base", seed=1, scheduler=DDPMScheduler(beta_schedule="scaled_linear"))
    networks = seesr_networks(0)
    export_official(networks, folder / "seesr")
    write_tagger(folder, tagger)
    files = folder / "base", folder / "seesr", folder / "ram_swin_large_14m.pth", folder / "DAPE.pth"
    return Published(*files, networks, tagger)
