"""The official RAM and DAPE state dicts: official names outside, ours inside, strict and reversible."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seesr_pl.models.ram_files import describe, official_names

if TYPE_CHECKING:
    from seesr_pl.models.ram import RAM

UNUSED_NETWORKS = ("tag_encoder.", "text_decoder.")
"""Start of the names of networks that the official class builds and neither SeeSR nor DAPE ever runs."""
# Buffers that Swin computes from its sizes.
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
    given = official_names(state_dict)
    used = {name: tensor for name, tensor in given.items() if not is_unused(name)}
    _copy_strictly(_base_tensors(ram), _split_fused(used), source="RAM", found=describe(given))


def ram_state_dict(ram: "RAM") -> dict[str, Tensor]:
    """Return the tensors of plain RAM by their official names, as `load_ram` takes them; a LoRA is left out."""
    return _fuse(_base_tensors(ram))


def load_dape(ram: "RAM", state_dict: Mapping[str, Tensor]) -> None:
    """Copy an official DAPE state dict (DAPE.pth) into the LoRA of `ram`; add the LoRA, of the file's rank, if none.

    The released file also holds LoRA tensors of networks that never run; they must be without effect (`lora_B` zero),
    since the official `.eval()` merges some of them into the tagging head (dape_model.py:257, ram/models/utils.py:21).
    Raises ValueError when they are not, or when a tensor is missing, unknown or of another shape.
    """
    used = dape_tensors(state_dict)
    rank = _lora_rank(used)
    if ram.lora_rank is None:
        ram.add_lora(rank)
    if ram.lora_rank != rank:
        raise ValueError(f"the DAPE file has LoRA rank {rank}, this RAM has rank {ram.lora_rank}")
    _copy_strictly(_lora_tensors(ram), _split_lora(used), source="DAPE", found=describe(used))


def dape_state_dict(ram: "RAM") -> dict[str, Tensor]:
    """Return the LoRA of `ram` by its official names, without networks that never run (56 tensors at full size).

    Raises ValueError if `ram` has no LoRA.
    """
    if ram.lora_rank is None:
        raise ValueError("this RAM has no LoRA: nothing to export as DAPE")
    return _fuse_lora(_lora_tensors(ram))


def dape_from_lora(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the official DAPE state dict of LoRA parameters named as in `RAM`, as a run's checkpoint has them."""
    return _fuse_lora({name.replace(".default.", "."): tensor for name, tensor in lora.items()})


def dape_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an official DAPE state dict that have an effect; ValueError for another state dict."""
    given = official_names(state_dict)
    if not given or not all(name.endswith((".lora_A", ".lora_B")) for name in given):
        raise ValueError(f"not a DAPE state dict: found {describe(given)}")
    _assert_unused_lora_is_zero(given)
    used = {name: tensor for name, tensor in given.items() if not name.startswith(UNUSED_NETWORKS)}
    _lora_rank(used)
    return used


def is_unused(name: str) -> bool:
    """Return whether an official RAM tensor of this name plays no part in tagging or representation."""
    return name.startswith(UNUSED_NETWORKS) or _BUFFER.match(name) is not None


def _ours(name: str) -> str:
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


def _theirs(name: str) -> str:
    for theirs, ours in reversed(_RENAMES):
        name = name.replace(ours, theirs)
    return name


def _split_fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _split(state, parts="qkv")


def _fuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _joined(state, parts="qkv")


def _split_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # loralib's MergedLinear runs a grouped convolution: the first half of A and of B belongs to the query, the second
    # to the value, and nothing is shared (swin_transformer_lora.py:114).
    return _split({f"{name}.weight": tensor for name, tensor in state.items()}, parts="qv")


def _fuse_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removesuffix(".weight"): tensor for name, tensor in _joined(state, parts="qv").items()}


def _split(state: Mapping[str, Tensor], *, parts: str) -> dict[str, Tensor]:
    """Rename to our names, and split what the official code fuses into equal rows, one for each of `parts`."""
    split = {}
    for name, tensor in state.items():
        if _FUSED not in name:
            split[_ours(name)] = tensor
            continue
        for part, rows in zip(parts, tensor.tensor_split(len(parts)), strict=True):
            split[_ours(name.replace(_FUSED, f".attention.{part}_proj."))] = rows
    return split


def _joined(state: Mapping[str, Tensor], *, parts: str) -> dict[str, Tensor]:
    """Rename to the official names; undoes `_split`."""
    joined = {}
    for name, tensor in state.items():
        if ".attention.q_proj." in name:
            rows = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in parts]
            joined[_theirs(name.replace(".attention.q_proj.", _FUSED))] = torch.cat(rows)
        elif ".attention.k_proj." not in name and ".attention.v_proj." not in name:
            joined[_theirs(name)] = tensor
    return joined


def _base_tensors(ram: "RAM") -> dict[str, Tensor]:
    state = ram.state_dict().items()
    return {name.replace(".base_layer.", "."): tensor for name, tensor in state if "lora_" not in name}


def _lora_tensors(ram: "RAM") -> dict[str, Tensor]:
    return {name.replace(".default.", "."): tensor for name, tensor in ram.state_dict().items() if "lora_" in name}


def _lora_rank(state: Mapping[str, Tensor]) -> int:
    ranks = {tensor.shape[1] for name, tensor in state.items() if name.endswith(".lora_B")}
    if len(ranks) != 1:
        raise ValueError(f"not a DAPE state dict: LoRA ranks {sorted(ranks)}, expected a single one")
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
