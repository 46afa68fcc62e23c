"""The networks that SeeSR is made of, as one value, and the hash by which weights are recognized."""

import hashlib
import importlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor, nn
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


def frozen_hash(module: nn.Module) -> str:
    """Return the `weights_hash` of all tensors of `module` that do not train."""
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return weights_hash({name: tensor for name, tensor in module.state_dict().items() if name not in trainable})


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return 32 hexadecimal digits for the names, types, shapes and bytes of the tensors of `state`.

    The memory format and the device do not matter; the precision does.
    """
    with ThreadPoolExecutor() as pool:
        return hashlib.blake2b(b"".join(sorted(pool.map(_digest, state.items()))), digest_size=16).hexdigest()


def cast_all_but_ram(parts: Any, dtype: torch.dtype) -> None:
    """Set the precision of the networks of `parts`, a stack or a module with its attributes; RAM keeps its own."""
    networks: tuple[Any, ...] = (parts.vae, parts.text_encoder, parts.unet, parts.controlnet)
    for network in networks:
        nn.Module.to(network, dtype=dtype)  # diffusers' own warns of an empty list


def import_parts(index: dict[str, Any]) -> None:
    """Import the modules of ours that a pipeline's `index` names.

    diffusers looks for the class of a part only in modules that are imported.
    """
    for part in index.values():
        if isinstance(part, list) and str(part[0]).startswith("seesr_pl."):
            importlib.import_module(part[0])


def _digest(item: tuple[str, Tensor]) -> bytes:
    name, tensor = item
    header = f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(content, digest_size=16, key=hashlib.blake2b(header).digest()).digest()
