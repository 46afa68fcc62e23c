"""Read the published RAM and DAPE files; name the model of a state dict and its sizes."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_FIRST_INTERMEDIATE = "tagging_head.encoder.layer.0.intermediate.dense.weight"
_KNOWN = (
    ("nothing", lambda names: not names),
    ("a DAPE, LoRA tensors alone", lambda names: all("lora_" in name for name in names)),
    ("a RAM with LoRA tensors in it", lambda names: any("lora_" in name for name in names)),
    ("a RAM++ (ram_plus)", lambda names: any("reweight_scale" in name for name in names)),
    ("a Tag2Text", lambda names: any("label_embed.weight" in name for name in names)),
    ("a RAM", lambda names: any("wordvec_proj" in name for name in names)),
    ("a diffusion UNet or ControlNet", lambda names: any("down_blocks." in name for name in names)),
    ("a Swin classifier", lambda names: any("patch_embed" in name for name in names)),
)


def read_published(path: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Return the tensors of `ram_swin_large_14m.pth` or `DAPE.pth`, or of a safetensors file of it, memory-mapped.

    RAM's file is a dict whose `model` is used; the optimizer state beside it is never read from the disk. DAPE's is
    flat. `trust` allows any pickle, which can run code: set it only for a file whose origin is sure. Raises
    FileNotFoundError, and ValueError where the file is damaged or holds no state dict.
    """
    content = _read(Path(path), trust=trust)
    state = content.get("model", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: no state dict in it, found {', '.join(map(str, list(content)[:5]))}")
    return dict(state)


def sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the `RAMConfig` arguments of an official RAM state dict, read from its shapes.

    The shapes do not show the number of heads of the tagging head; it stays at its default. Raises ValueError for
    the state dict of another model.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in official_names(state_dict).items()}
    tables = [
        re.match(r"visual_encoder\.layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table", n) for n in shapes
    ]
    blocks = sorted((int(match[1]), int(match[2]), shapes[match[0]]) for match in tables if match)
    needed = ("visual_encoder.patch_embed.proj.weight", "image_proj.weight", "fc.weight", _FIRST_INTERMEDIATE)
    if not blocks or any(name not in shapes for name in needed):
        raise ValueError(f"not a RAM state dict: found {describe(state_dict)}")
    stages = range(blocks[-1][0] + 1)
    window_size = (round(blocks[0][2][0] ** 0.5) + 1) // 2
    patch_size = shapes["visual_encoder.patch_embed.proj.weight"][-1]
    return {
        # The last stage is one window, in RAM as in the tiny models (image 384 = 4 * 12 * 8).
        "image_size": patch_size * window_size * 2 ** (len(stages) - 1),
        "patch_size": patch_size,
        "embed_dim": shapes["visual_encoder.patch_embed.proj.weight"][0],
        "depths": tuple(sum(block[0] == stage for block in blocks) for stage in stages),
        "num_heads": tuple(next(block[2][1] for block in blocks if block[0] == stage) for stage in stages),
        "window_size": window_size,
        "representation_dim": shapes["image_proj.weight"][0],
        "head_hidden_size": shapes["fc.weight"][1],
        "head_intermediate_size": shapes[_FIRST_INTERMEDIATE][0],
        "head_num_layers": len(
            [n for n in shapes if re.match(r"tagging_head\.encoder\.layer\.\d+\.intermediate\.dense\.bias", n)]
        ),
    }


def describe(state_dict: Mapping[str, Tensor]) -> str:
    """Return, for a message, the model that a state dict most likely belongs to, or its first names."""
    names = list(state_dict)
    for model, is_model in _KNOWN:
        if is_model(names):
            return f"{model} ({len(names)} tensors)"
    return f"{len(names)} tensors named " + ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def official_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict without DataParallel's prefix, which some files keep, and with the head's present name.

    Old RAM files say `vision_multi` (ram/models/utils.py:298).
    """
    return {n.removeprefix("module.").replace("vision_multi.", "tagging_head."): t for n, t in state_dict.items()}


def _read(path: Path, *, trust: bool) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Files older than torch 1.6 are no zip archives and cannot be memory-mapped.
        content = torch.load(path, map_location="cpu", weights_only=not trust, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: {_unreadable(path)} ({type(error).__name__}: {reason})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content


def _unreadable(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    size = f"{path.stat().st_size:,} bytes"
    if start.startswith(b"version https://git-lfs"):
        return f"{size}, a Git LFS pointer instead of the weights: fetch the file itself"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"{size}, a web page instead of the weights: download the file itself"
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"{size}, a torch file that ends too early: download it again"
    if zipfile.is_zipfile(path):
        return f"{size}, holds more than tensors; if you are sure of its origin, convert it with --trust"
    return f"{size}, not a readable weights file"
