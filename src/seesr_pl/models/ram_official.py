"""The official RAM and DAPE state dicts: official names outside, ours inside, strict and reversible."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM

# Networks that the official class builds and neither SeeSR nor DAPE ever runs, and buffers that Swin derives anew.
UNUSED_NETWORKS = ("tag_encoder.", "text_decoder.")
_BUFFER = re.compile(r"^visual_encoder\..*\.(relative_position_index|attn_mask)$")
_RENAMES = (
    ("visual_encoder.patch_embed.proj.", "visual_encoder.embeddings.patch_embeddings.projection."),
    ("visual_encoder.patch_embed.norm.", "visual_encoder.embeddings.norm."),
    ("visual_encoder.layers.", "visual_encoder.encoder.layers."),
    ("visual_encoder.norm.", "visual_encoder.layernorm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.o_proj."),
    (".attn.relative_position_bias_table", ".attention.relative_position_bias.relative_position_bias_table"),
    ("tagging_head.encoder.layer.", "tagging_head.layer."),
)
_FUSED = ".attn.qkv."


def load_ram(ram: "RAM", state_dict: Mapping[str, Tensor]) -> None:
    """Copy an official RAM state dict (the `model` of ram_swin_large_14m.pth) into `ram`, whether it has a LoRA or not.

    The networks and buffers that RAM's tagging never uses are skipped by name. Raises ValueError, and changes nothing,
    when any other tensor is missing, unknown or of another shape.
    """
    given = {_official_name(name): tensor for name, tensor in state_dict.items()}
    used = {name: tensor for name, tensor in given.items() if not is_unused(name)}
    _copy_strictly(_base_tensors(ram), _split_fused(used), source="RAM", found=describe(given))


def ram_state_dict(ram: "RAM") -> dict[str, Tensor]:
    """The tensors of plain RAM under their official names, what `load_ram` takes; a LoRA is left out, not merged."""
    return _fuse(_base_tensors(ram))


def load_dape(ram: "RAM", state_dict: Mapping[str, Tensor]) -> None:
    """Copy an official DAPE state dict (DAPE.pth) into the LoRA of `ram`; adds the LoRA, of the file's rank, if none.

    The released file also holds LoRA tensors of networks that never run; they must be without effect (`lora_B` zero),
    since the official `.eval()` merges some of them into the tagging head (dape_model.py:257, ram/models/utils.py:21).
    Raises ValueError when they are not, or when a tensor is missing, unknown or of another shape.
    """
    given = {_official_name(name): tensor for name, tensor in state_dict.items()}
    _assert_unused_lora_is_zero(given)
    used = {name: tensor for name, tensor in given.items() if not name.startswith(UNUSED_NETWORKS)}
    rank = _lora_rank(used, found=describe(given))
    if ram.lora_rank is None:
        ram.add_lora(rank)
    if ram.lora_rank != rank:
        raise ValueError(f"the DAPE file has LoRA rank {rank}, this RAM has rank {ram.lora_rank}")
    _copy_strictly(_lora_tensors(ram), _split_lora(used), source="DAPE", found=describe(given))


def dape_state_dict(ram: "RAM") -> dict[str, Tensor]:
    """The LoRA of `ram` under its official names, without the tensors of networks that never run (56 at full size)."""
    if ram.lora_rank is None:
        raise ValueError("this RAM has no LoRA: nothing to export as DAPE")
    return _fuse_lora(_lora_tensors(ram))


def is_unused(name: str) -> bool:
    """Whether an official RAM tensor of this name plays no part in tagging or representation."""
    return name.startswith(UNUSED_NETWORKS) or _BUFFER.match(name) is not None


def sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The `RAMConfig` arguments that an official RAM state dict was made with, read from its shapes.

    The number of heads of the tagging head leaves no trace in the shapes; it stays at its default.
    """
    shapes = {_official_name(name): tuple(tensor.shape) for name, tensor in state_dict.items()}
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


def _official_name(name: str) -> str:
    # The official save strips DataParallel's prefix, files saved by hand may not; old RAM files say vision_multi
    # (ram/models/utils.py:298).
    return name.removeprefix("module.").replace("vision_multi.", "tagging_head.")


def _ours(name: str) -> str:
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


def _theirs(name: str) -> str:
    for theirs, ours in reversed(_RENAMES):
        name = name.replace(ours, theirs)
    return name


def _split_fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    split = {}
    for name, tensor in state.items():
        if name.endswith((_FUSED + "weight", _FUSED + "bias")):
            for part, rows in zip("qkv", tensor.tensor_split(3), strict=True):
                split[_ours(name.replace(_FUSED, f".attention.{part}_proj."))] = rows
        else:
            split[_ours(name)] = tensor
    return split


def _fuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    fused = {}
    for name, tensor in state.items():
        if ".attention.q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            fused[_theirs(name.replace(".attention.q_proj.", _FUSED))] = torch.cat(parts)
        elif ".attention.k_proj." not in name and ".attention.v_proj." not in name:
            fused[_theirs(name)] = tensor
    return fused


def _split_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # loralib's MergedLinear runs a grouped convolution: the first half of A and of B belongs to the query, the second
    # to the value, and nothing is shared (swin_transformer_lora.py:114).
    split = {}
    for name, tensor in state.items():
        name = name + ".weight"
        if _FUSED in name:
            for part, rows in zip("qv", tensor.tensor_split(2), strict=True):
                split[_ours(name.replace(_FUSED, f".attention.{part}_proj."))] = rows
        else:
            split[_ours(name)] = tensor
    return split


def _fuse_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    fused = {}
    for name, tensor in state.items():
        official = _theirs(name.replace(".attention.q_proj.", _FUSED)).removesuffix(".weight")
        if ".attention.q_proj." in name:
            fused[official] = torch.cat([tensor, state[name.replace(".q_proj.", ".v_proj.")]])
        elif ".attention.v_proj." not in name:
            fused[official] = tensor
    return fused


def _base_tensors(ram: "RAM") -> dict[str, Tensor]:
    state = ram.state_dict().items()
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state if "lora_" not in name}


def _lora_tensors(ram: "RAM") -> dict[str, Tensor]:
    return {name.replace(".default.", "."): tensor for name, tensor in ram.state_dict().items() if "lora_" in name}


def _lora_rank(state: Mapping[str, Tensor], *, found: str) -> int:
    ranks = {tensor.shape[1] for name, tensor in state.items() if name.endswith(".lora_B")}
    if len(ranks) != 1:
        raise ValueError(f"not a DAPE state dict: found {found}, LoRA ranks {sorted(ranks)}")
    return ranks.pop()


def _assert_unused_lora_is_zero(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        unused = name.startswith(UNUSED_NETWORKS) and name.endswith("lora_B")
        if unused and not tensor.is_meta and bool(tensor.any()):
            raise ValueError(f"{name} is not zero: this DAPE trained a network that tagging never runs")


def _copy_strictly(targets: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str, found: str) -> None:
    wrong = {
        "missing": [_theirs(name) for name in targets if name not in state],
        "unknown": [_theirs(name) for name in state if name not in targets],
        "of another shape": _other_shapes(targets, state),
    }
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in wrong.items() if names)
        raise ValueError(f"not a {source} for this network: found {found}; {told}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(state[name])


def _other_shapes(targets: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    shared = (name for name in targets if name in state and targets[name].shape != state[name].shape)
    return [f"{_theirs(n)} {tuple(state[n].shape)} instead of {tuple(targets[n].shape)}" for n in shared]


def _first(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
