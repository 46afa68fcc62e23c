"""What a state dict is: whose it is by its names, how large the network is by its shapes."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The `RAMConfig` arguments that an official RAM state dict was made with, read from its shapes.

    The number of heads of the tagging head leaves no trace in the shapes; it stays at its default.
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
    """What a state dict looks like, for a message: the model it most likely belongs to, or its first names."""
    names = list(state_dict)
    for model, is_model in _KNOWN:
        if is_model(names):
            return f"{model} ({len(names)} tensors)"
    return f"{len(names)} tensors named " + ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def official_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without DataParallel's prefix, which files saved by hand keep, and with the head's present name.

    Old RAM files say `vision_multi` (ram/models/utils.py:298).
    """
    return {n.removeprefix("module.").replace("vision_multi.", "tagging_head."): t for n, t in state_dict.items()}


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
