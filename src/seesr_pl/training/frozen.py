"""What trains and what does not: which weights, how the frozen ones are stored, shared and named in checkpoints."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib.metadata import version
from typing import Any, ClassVar, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from seesr_pl.models.stack import frozen_hash
from seesr_pl.types import Batch

# The layers that autocast runs in low precision, so that storing their weights so changes no result.
_AUTOCAST_LAYERS = (nn.Linear, nn.Conv2d)
# Lightning's WeightAveraging keeps the weights that train beside the averaged ones under the second name.
_MODEL_STATES = ("state_dict", "current_model_state")
_LIBRARIES = ("seesr-pl", "torch", "lightning", "diffusers", "transformers", "peft")


class PartlyFrozen(LightningModule):
    """What DAPE's and SeeSR's stages share: frozen parts named by hash, batches of which only the pictures travel."""

    frozen_parts: ClassVar[tuple[str, ...]]

    def __init__(self, *, frozen_dtype: str) -> None:
        super().__init__()
        self.frozen_dtype: torch.dtype = getattr(torch, frozen_dtype)
        self.frozen_hashes: dict[str, str] = {}
        self._micro_losses: list[Tensor] = []

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Only pictures travel: reading a sample's keys back from a GPU would wait for all that is queued there."""
        pictures = {"hq": batch["hq"], "lq": batch["lq"]}
        return {**batch, **super().transfer_batch_to_device(pictures, device, dataloader_idx)}

    def setup(self, stage: str) -> None:
        """Name the frozen parts by hash, then settle their buffers and their precision."""
        self.hash_frozen()
        keep_buffers_local(self)
        if self.frozen_dtype != torch.float32:
            cast_frozen(self, self.frozen_dtype)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """The next loss belongs to the next step."""
        self._micro_losses.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains."""
        keep_trainable(checkpoint, self, self.frozen_hashes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other frozen weights."""
        self.hash_frozen()
        add_frozen(checkpoint, self, self.frozen_hashes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with its own trainable parameters and the same frozen ones, for Lightning's weight averaging."""
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__ = copy_sharing_frozen(self, memo)
        return copy

    def hash_frozen(self) -> None:
        """Name the frozen parts, once."""
        # At full precision: before `setup` lowers it, and where a checkpoint is loaded without a trainer.
        if not self.frozen_hashes:
            self.frozen_hashes = {part: frozen_hash(getattr(self, part)) for part in self.frozen_parts}


def train_controlnet_and_rca(unet: nn.Module, controlnet: nn.Module, *, rca: bool) -> None:
    """Lets gradients into all of the ControlNet and into the UNet's `image_attentions` (train_seesr.py:746-756).

    Without `rca` the `image_attentions` of both stay frozen, and become zero: the identity, whoever runs the result.
    """
    controlnet.requires_grad_(True)
    for network in (unet, controlnet):
        for name, parameter in network.named_parameters():
            if "image_attentions" in name.split("."):
                parameter.requires_grad_(rca)
                if not rca:
                    parameter.data.zero_()


def cast_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Stores the linear and convolution layers of `module` that do not train in `dtype`, in place.

    Under autocast to `dtype` the result is the same to the bit, without a cast at each use.
    """
    for layer in module.modules():
        if isinstance(layer, _AUTOCAST_LAYERS) and not any(p.requires_grad for p in layer.parameters()):
            layer.to(dtype)


def keep_buffers_local(module: nn.Module) -> None:
    """Tells DDP that the buffers of `module` are constants, which need not be sent around.

    It would send them before every forward pass, in validation too, where a rank may have fewer batches than another
    and the others would wait for it.
    """
    names = [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def copy_sharing_frozen(module: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    """A deep copy of the attributes of `module` in which tensors that do not train are shared, not copied.

    An average of the weights would else hold all of Stable Diffusion and the tagger a second time.
    """
    memo.update({id(parameter): parameter for parameter in module.parameters() if not parameter.requires_grad})
    return deepcopy(module.__dict__, memo)


def trainable_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of `module` that require a gradient, detached, by name."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if tensor.requires_grad}


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
