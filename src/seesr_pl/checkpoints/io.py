"""A checkpoint of a run holds what trains; what is frozen it names by hash, and refuses another."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

# Lightning's WeightAveraging keeps the weights that train beside the averaged ones under the second name.
_MODEL_STATES = ("state_dict", "current_model_state")
_LIBRARIES = ("seesr-pl", "torch", "lightning", "diffusers", "transformers", "peft")


def trainable_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of `module` that require a gradient, detached, by name."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if tensor.requires_grad}


def frozen_hash(module: nn.Module) -> str:
    """32 hexadecimal digits for the names, types, shapes and bytes of all tensors of `module` that do not train.

    The memory format and the device do not matter; the precision does.
    """
    state = _frozen_state_dict(module)
    with ThreadPoolExecutor() as pool:
        digests = pool.map(_digest, state.items())
        return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest()


def check_frozen(recorded: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Raises ValueError, with both hashes, if a frozen part is not the one that a checkpoint was made with."""
    parts = sorted(part for part in {*recorded, *present} if recorded.get(part) != present.get(part))
    if not parts:
        return
    lines = [f"{part}: {recorded.get(part)} in the checkpoint, {present.get(part)} here" for part in parts]
    raise ValueError(
        "the checkpoint was made with other frozen weights (" + "; ".join(lines) + "); "
        "point the configuration to the weights that the run was started from"
    )


def keep_trainable(checkpoint: dict[str, Any], module: nn.Module, frozen: Mapping[str, str]) -> None:
    """Reduces the model states of a Lightning `checkpoint` to what trains, and records `frozen` and the versions."""
    for key in _model_states(checkpoint):
        checkpoint[key] = {name: checkpoint[key][name] for name in trainable_state_dict(module)}
    checkpoint["frozen"] = dict(frozen)
    checkpoint["versions"] = {library: version(library) for library in _LIBRARIES}


def add_frozen(checkpoint: dict[str, Any], module: nn.Module, frozen: Mapping[str, str]) -> None:
    """Undoes `keep_trainable` with the frozen tensors of `module`, so that a strict load of the whole succeeds.

    Raises ValueError if the checkpoint was made with other frozen weights, or trained other parameters.
    """
    check_frozen(checkpoint["frozen"], frozen)
    for key in _model_states(checkpoint):
        _check_names(module, checkpoint[key])
        checkpoint[key] = {**module.state_dict(), **checkpoint[key]}


def _model_states(checkpoint: Mapping[str, Any]) -> Iterable[str]:
    return [key for key in _MODEL_STATES if key in checkpoint]


def _check_names(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = trainable_state_dict(module)
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            f"the checkpoint trains other parameters: {len(missing)} of {len(own)} are missing "
            f"(first {missing[:3]}), {len(unknown)} are unknown (first {unknown[:3]}); "
            "check that the module is configured as in the run that wrote it"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} in the checkpoint, {tuple(own[name].shape)} here")


def _frozen_state_dict(module: nn.Module) -> dict[str, Tensor]:
    trainable = trainable_state_dict(module)
    return {name: tensor for name, tensor in module.state_dict().items() if name not in trainable}


def _digest(item: tuple[str, Tensor]) -> bytes:
    name, tensor = item
    header = f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return hashlib.blake2b(content, digest_size=16, key=hashlib.blake2b(header).digest()).digest()
