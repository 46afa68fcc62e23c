"""The networks that SeeSR is made of, as one value, and the hash by which weights are recognized."""

import hashlib
import importlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL
from diffusers.pipelines import pipeline_loading_utils
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from seesr_pl.models.ram import RAM
from seesr_pl.models.seesr import SeeSRControlNet, SeeSRUNet
from seesr_pl.models.weights import from_folder, loading

# diffusers saves and loads components by a table of base classes, looked up in the module of the component's class.
_OURS = {key: ["save_pretrained", "from_pretrained"] for key in ("RAM", "SeeSRUNet", "SeeSRControlNet")}
pipeline_loading_utils.LOADABLE_CLASSES["seesr_pl.models.ram"] = {"RAM": _OURS["RAM"]}
pipeline_loading_utils.ALL_IMPORTABLE_CLASSES.update(_OURS)


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


def stock_parts(folder: str | Path, types: Any, *, given: Collection[str]) -> dict[str, Any]:
    """Read the VAE and text encoder of a pipeline's `folder` whose weights diffusers would not find (`loading`).

    UNet and ControlNet see to it themselves.

    Args:
        folder: of the pipeline, or its name on the Hugging Face hub, where nothing is read.
        types: as diffusers' `dtype`: a dict of dtypes by the name of the part, and "default"; anything else is float32.
        given: names of parts that are not read.
    """
    by_part: dict[str, Any] = types if isinstance(types, dict) else {}
    networks: dict[str, Any] = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    return {
        name: from_folder(network, Path(folder) / name, by_part.get(name, by_part.get("default", torch.float32)))
        for name, network in networks.items()
        if name not in given and loading(Path(folder) / name)
    }


def _digest(item: tuple[str, Tensor]) -> bytes:
    name, tensor = item
    header = f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(content, digest_size=16, key=hashlib.blake2b(header).digest()).digest()
