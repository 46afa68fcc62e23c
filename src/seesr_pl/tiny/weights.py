"""The learned weights that the package ships for the tiny stack: a prior (UNet, text encoder) and a RAM, in float16."""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seesr_pl.models.ram import RAM
from seesr_pl.models.seesr import SeeSRUNet

PRIOR = "tiny_prior.safetensors"
RAM_FOLDER = "tiny_ram"
_ASSETS = files("seesr_pl.tiny") / "assets"


def load_prior(unet: SeeSRUNet, text_encoder: nn.Module) -> None:
    """Copy the shipped prior into both networks; the prior holds no RCA, so the UNet's RCA stays as it is."""
    with as_file(_ASSETS / PRIOR) as path:
        state = load_file(path)
    for name, network in (("unet", unet), ("text_encoder", text_encoder)):
        _copy(_kept(network), {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")})


def save_prior(unet: SeeSRUNet, text_encoder: nn.Module, path: str | Path) -> None:
    """Write the file that `load_prior` reads, in float16."""
    networks = (("unet", unet), ("text_encoder", text_encoder))
    state = {
        f"{name}.{key}": tensor.half().contiguous() for name, net in networks for key, tensor in _kept(net).items()
    }
    save_file(state, path)


def shipped_ram() -> RAM:
    """Return the RAM that was trained on tagged tiles of photographs, in float32 and eval mode, without a LoRA."""
    with as_file(_ASSETS / RAM_FOLDER) as folder:
        return RAM.from_pretrained(folder)


def save_ram(ram: RAM, folder: str | Path) -> None:
    """Write the folder that `shipped_ram` reads, in float16; `ram` itself is cast too."""
    ram.half().save_pretrained(folder)


def _kept(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if "image_attentions" not in name.split(".")}


@torch.no_grad()
def _copy(own: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    assert own.keys() == given.keys(), own.keys() ^ given.keys()
    for name, tensor in given.items():
        own[name].copy_(tensor)
