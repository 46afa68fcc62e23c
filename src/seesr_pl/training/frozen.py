"""Which weights train; how the frozen ones are stored, shared among copies, and named in checkpoints."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from seesr_pl.files import versions
from seesr_pl.models.stack import frozen_hash
from seesr_pl.training.sums import RankSums, num_ranks
from seesr_pl.types import Batch

# The layers that autocast runs in low precision, so that storing their weights so changes no result.
AUTOCAST_LAYERS = (nn.Linear, nn.Conv2d)
# Where Lightning's WeightAveraging is on, the first holds the averaged weights and the second those that train.
_MODEL_STATES = ("state_dict", "current_model_state")


class PartlyFrozen(LightningModule):
    """What the two stages share: checkpoints without frozen parts, and batches of which only images are moved."""

    frozen_parts: tuple[str, ...]
    """Names of the attributes that hold frozen networks; a checkpoint holds their hashes."""
    logged: ClassVar[tuple[str, ...]] = ("loss",)
    """Scalars of a micro batch that are logged as `train/<name>`; `micro_outputs` has them for each of the step."""

    def __init__(self, *, frozen_dtype: str) -> None:
        super().__init__()
        self.frozen_dtype: torch.dtype = getattr(torch, frozen_dtype)
        self.frozen_hashes: dict[str, str] = {}
        self.micro_outputs: list[dict[str, Tensor]] = []
        self.rank_sums = RankSums()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the images alone: reading a sample's keys back from a GPU would wait for all work queued there."""
        images = {"hq": batch["hq"], "lq": batch["lq"]}
        return {**batch, **super().transfer_batch_to_device(images, device, dataloader_idx)}

    def setup(self, stage: str) -> None:
        """Hash the frozen parts, keep DDP from sending buffers, and store frozen weights in `frozen_dtype`.

        Raises ValueError where the trainer's precision does not fit `frozen_dtype`.
        """
        check_precision(self.frozen_dtype, self.trainer.precision)
        self.hash_frozen()
        keep_buffers_local(self)
        if self.frozen_dtype != torch.float32:
            cast_frozen(self, self.frozen_dtype)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Forget the micro batches of the step before."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.micro_outputs.clear()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """At a step that the loggers record, log its losses: means over its micro batches and over the ranks.

        What callbacks have added to `rank_sums` is reduced together with them.
        """
        if is_logged_step(self.trainer):
            means = torch.stack([self._scalars(outputs) for outputs in self.micro_outputs]).mean(0)
            self.rank_sums.add(means / num_ranks(), self._log_losses)
        self.rank_sums.reduce()

    def _scalars(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.stack([outputs[name].detach() for name in self.logged])

    def _log_losses(self, means: Tensor) -> None:
        named = {f"train/{name}": mean for name, mean in zip(self.logged, means, strict=True)}
        self.log_dict(named, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reduce the checkpoint to what trains."""
        keep_trainable(checkpoint, self, self.frozen_hashes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the frozen weights; ValueError if the checkpoint was made with others."""
        self.hash_frozen()
        add_frozen(checkpoint, self, self.frozen_hashes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy trainable parameters and share frozen ones, for Lightning's weight averaging."""
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__ = copy_sharing_frozen(self, memo)
        return copy

    def hash_frozen(self) -> None:
        """Hash the frozen parts, once."""
        # At full precision: before `setup` lowers it, and where a checkpoint is loaded without a trainer.
        if not self.frozen_hashes:
            self.frozen_hashes = {part: frozen_hash(getattr(self, part)) for part in self.frozen_parts}


def is_logged_step(trainer: Trainer) -> bool:
    """Return, before an optimizer step, whether the loggers record it."""
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
    return every > 0 and (trainer.global_step + 1) % every == 0


def train_controlnet_and_rca(unet: nn.Module, controlnet: nn.Module, *, rca: bool) -> None:
    """Let gradients into all of the ControlNet and into the UNet's `image_attentions` (train_seesr.py:746-756).

    Without `rca` the `image_attentions` of both stay frozen and become zero, which makes them the identity wherever
    the saved weights are run.
    """
    controlnet.requires_grad_(True)
    for network in (unet, controlnet):
        for name, parameter in network.named_parameters():
            if "image_attentions" in name.split("."):
                parameter.requires_grad_(rca)
                if not rca:
                    parameter.data.zero_()


def check_precision(frozen: torch.dtype, precision: str | None) -> None:
    """Raise ValueError if weights stored in `frozen` are not those that the trainer's `precision` computes with."""
    computed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision or "")
    if frozen not in (torch.float32, computed):
        name = str(frozen).removeprefix("torch.")
        fits = {torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}[frozen]
        raise ValueError(
            f"module.frozen_dtype={name} does not fit trainer.precision={precision}: it would round weights that are "
            f"computed with in another precision; set trainer.precision={fits} or module.frozen_dtype=float32"
        )


def cast_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Store the linear and convolution layers of `module` that do not train in `dtype`, in place.

    Under autocast to `dtype` results stay equal to the bit, and the cast at each use is saved.
    """
    for layer in module.modules():
        if isinstance(layer, AUTOCAST_LAYERS) and not any(p.requires_grad for p in layer.parameters()):
            layer.to(dtype)


def keep_buffers_local(module: nn.Module) -> None:
    """Tell DDP not to broadcast the buffers of `module`, which are constants.

    It would broadcast them before every forward pass, in validation too, where a rank may have fewer batches than the
    others, which would then wait for it forever.
    """
    names = [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def copy_sharing_frozen(module: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    """Return a deep copy of the attributes of `module` in which tensors that do not train are shared, not copied.

    Otherwise an average of the weights would hold all of Stable Diffusion and the tagger a second time.
    """
    memo.update({id(parameter): parameter for parameter in module.parameters() if not parameter.requires_grad})
    return deepcopy(module.__dict__, memo)


def trainable_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of `module` that require a gradient, detached, by name."""
    return {name: tensor.detach() for name, tensor in module.named_parameters() if tensor.requires_grad}


def check_frozen(recorded: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Raise ValueError, with both hashes, if a frozen part is not the one that a checkpoint was made with."""
    parts = sorted(part for part in {*recorded, *present} if recorded.get(part) != present.get(part))
    if not parts:
        return
    lines = [f"{part}: {recorded.get(part)} in the checkpoint, {present.get(part)} here" for part in parts]
    raise ValueError(
        "the checkpoint was made with other frozen weights (" + "; ".join(lines) + "); "
        "point the configuration to the weights that the run was started from"
    )


def keep_trainable(checkpoint: dict[str, Any], module: nn.Module, frozen: Mapping[str, str]) -> None:
    """Reduce the model states of a Lightning `checkpoint` to what trains; add the hashes `frozen` and the versions."""
    for key in _model_states(checkpoint):
        checkpoint[key] = {name: checkpoint[key][name] for name in trainable_state_dict(module)}
    checkpoint["frozen"] = dict(frozen)
    checkpoint["versions"] = versions()


def add_frozen(checkpoint: dict[str, Any], module: nn.Module, frozen: Mapping[str, str]) -> None:
    """Undo `keep_trainable` with the frozen tensors of `module`, so that a strict load of the whole succeeds.

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
