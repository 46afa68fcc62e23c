"""What a training needs and how long it takes, computed from its networks before it starts."""

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from seesr_pl.data.datamodule import ShardDataModule
from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.training.dape import DAPEDistillation
from seesr_pl.training.frozen import AUTOCAST_LAYERS, PartlyFrozen, check_precision
from seesr_pl.training.optim import sharded
from seesr_pl.training.seesr import SeeSRDiffusion
from seesr_pl.training.speed import device_peak_tflops, step_flops

GIB = 2**30
MFU = 0.35
"""The share of a GPU's peak that the prediction of the speed takes for granted; `speed/mfu` has the real one."""
_LOW = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_PROBE = 4096  # elements; smaller tensors are left in float32 by 8-bit optimizers
Network = TypeVar("Network", bound=nn.Module)


class Memory(NamedTuple):
    """What one device holds during a step, in GiB; `buckets` are DDP's copies of the gradients.

    `temporary` is what the optimizer's step needs for a moment, when the activations are gone.
    """

    frozen: float
    trainable: float
    gradients: float
    buckets: float
    optimizer: float
    temporary: float
    activations: float

    @property
    def peak(self) -> float:
        """The sum, of the activations and the temporary tensors the larger; without the VAE, workspaces and gaps."""
        return sum(self) - min(self.temporary, self.activations)


class Activations(NamedTuple):
    """What the forward pass keeps for the backward pass, in GiB: per image, and once (low-precision weights)."""

    per_image: float
    once: float


class Plan(NamedTuple):
    """How a run is cut and what it needs; memory of one device in GiB, speed of all in images a second.

    `available` and `images_per_second` are None where they are not known, as on a CPU.
    """

    num_devices: int
    micro_batches: int
    micro_batch_size: int
    max_steps: int
    memory: Memory
    available: float | None
    images_per_second: float | None

    @property
    def batch(self) -> int:
        """Images of an optimizer step."""
        return self.num_devices * self.micro_batches * self.micro_batch_size

    @property
    def days(self) -> float | None:
        """Time of the whole run."""
        speed = self.images_per_second
        return None if speed is None else self.max_steps * self.batch / speed / 86_400


def plan(
    module: LightningModule,
    data: ShardDataModule,
    *,
    num_devices: int,
    max_steps: int,
    precision: str | None,
    device: torch.device,
) -> Plan:
    """Return the plan of a run of `module` on `num_devices` like `device`; both may be what doctor made up of them.

    Raises ValueError where the global batch cannot be cut for that many devices, or `precision` does not fit the frozen
    weights.
    """
    if isinstance(module, PartlyFrozen):
        check_precision(module.frozen_dtype, precision)  # what is counted below would fail on them
    parts = data.accumulation(num_devices)
    micro = data.global_batch_size // (parts * num_devices)
    on_gpu = device.type == "cuda"
    peak, speed = device_peak_tflops(device), None
    if peak is not None and isinstance(module, SeeSRDiffusion):
        speed = num_devices * MFU * peak * 1e12 / step_flops(module, size=data.crop_size).total
    needed = memory(
        module,
        micro_batch_size=micro,
        crop_size=data.crop_size,
        num_devices=num_devices,
        precision=precision,
        on_gpu=on_gpu,
    )
    available = torch.cuda.get_device_properties(device).total_memory / GIB if on_gpu else None
    return Plan(num_devices, parts, micro, max_steps, needed, available, speed)


def memory(
    module: LightningModule,
    *,
    micro_batch_size: int,
    crop_size: int,
    num_devices: int = 1,
    precision: str | None = None,
    on_gpu: bool = True,
    bucket_view: bool = True,
) -> Memory:
    """Return what a step of `module` needs on one device.

    `module` may be on the meta device. Its activations are counted on copies without data: 0 for a module of other
    networks than SeeSR's and DAPE's. A GPU keeps normalizations in float32, so that under "bf16-mixed" it needs more
    than is counted here. `bucket_view` is `GradientExchange`'s `gradient_as_bucket_view`.
    """
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    kept_low = _kept_low(module, getattr(module, "frozen_dtype", torch.float32))
    frozen = [(p.numel(), 2 if id(p) in kept_low else 4) for p in module.parameters() if not p.requires_grad]
    optimizer = getattr(module, "optimizer", torch.optim.AdamW)
    state, temporary = optimizer_bytes(optimizer, on_gpu=on_gpu)
    shares = num_devices if getattr(optimizer, "func", optimizer) is sharded else 1
    kept = activations(module, crop_size=crop_size, precision=precision)
    return Memory(
        frozen=sum(size * each for size, each in frozen) / GIB,
        trainable=4 * trained / GIB,
        gradients=4 * trained / GIB,
        buckets=4 * trained / GIB if num_devices > 1 and not bucket_view else 0.0,
        optimizer=state * trained / GIB / shares,
        temporary=temporary * trained / GIB,
        activations=kept.once + micro_batch_size * kept.per_image,
    )


def optimizer_bytes(optimizer: Callable[..., Optimizer], *, on_gpu: bool) -> tuple[float, float]:
    """Return the bytes for each trainable parameter that an optimizer keeps, and those that its step needs besides.

    The first is measured on a parameter of its own. On a GPU, torch's optimizers go through all parameters at once
    and need one more value for each, unless they are told to be `fused`.
    """
    named = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    if "bitsandbytes" in named.__module__:  # 8-bit states, which do not exist on a CPU
        return 2.0, 0.0
    parameter = nn.Parameter(torch.zeros(_PROBE))
    made = optimizer([parameter], lr=0.0)
    parameter.grad = torch.zeros(_PROBE)
    made.step()
    state = [value for value in made.state[parameter].values() if isinstance(value, Tensor)]
    at_once = on_gpu and not made.defaults.get("fused") and made.defaults.get("foreach") is not False
    return sum(t.numel() * t.element_size() for t in state if t.numel() > 1) / _PROBE, 4.0 if at_once else 0.0


def activations(module: LightningModule, *, crop_size: int, precision: str | None) -> Activations:
    """Return what the networks of `module` keep for the backward pass at this crop size and Lightning precision."""
    forward = _forward(module, crop_size)
    if forward is None:
        return Activations(0.0, 0.0)
    one, two = (_kept_bytes(module, forward, number, low=_LOW.get(precision or "")) / GIB for number in (1, 2))
    return Activations(two - one, max(0.0, 2 * one - two))


def _forward(module: LightningModule, size: int) -> Callable[[Any, int], Tensor] | None:
    """Return the pass that trains, as a function of the networks and the number of images."""
    if isinstance(module, SeeSRDiffusion):
        tokens, width = module.tokenizer.model_max_length, module.text_encoder.config.hidden_size
        side = size // 2 ** (len(module.vae.config["block_out_channels"]) - 1)

        # RAM's last stage has 1 / 8 of its patches a side; one token more stands for the image.
        seen_tokens = (module.ram.config.image_size // module.ram.config.patch_size // 8) ** 2 + 1
        seen_shape = seen_tokens, module.ram.config.representation_dim

        def denoise(networks: Any, number: int) -> Tensor:
            latents = torch.empty(number, module.unet.config["in_channels"], side, side)
            seen = torch.empty(number, *seen_shape) if module.rca else None
            condition = Condition(torch.empty(number, tokens, width), seen, torch.empty(number, 3, size, size))
            timesteps = torch.zeros(number, dtype=torch.int64)
            return predict(networks["unet"], networks["controlnet"], latents, timesteps, condition)

        return denoise
    if isinstance(module, DAPEDistillation):
        side = module.ram.config.image_size

        def see(networks: Any, number: int) -> Tensor:
            representation = networks["ram"].representation(torch.empty(number, 3, side, side))
            if module.logit_weight == 0:
                return representation.sum()
            return networks["ram"].tag_logits(representation).sum() + representation.sum()

        return see
    return None


def _kept_bytes(
    module: LightningModule, forward: Callable[[Any, int], Tensor], number: int, *, low: torch.dtype | None
) -> int:
    names = ("unet", "controlnet") if isinstance(module, SeeSRDiffusion) else ("ram",)
    kept_low = _kept_low(module, getattr(module, "frozen_dtype", torch.float32))
    with FakeTensorMode() as mode:
        networks = nn.ModuleDict({name: _fake(getattr(module, name), kept_low) for name in names})
    weights = {parameter.untyped_storage()._cdata for parameter in networks.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    autocast = nullcontext() if low is None else torch.autocast("cpu", torch.bfloat16)
    with mode, saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        forward(networks, number).float().square().mean()
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in weights)


def _kept_low(module: nn.Module, dtype: torch.dtype) -> dict[int, torch.dtype]:
    """Return, by the parameters' ids, what `cast_frozen` stores in `dtype`; nothing for float32."""
    layers = [layer for layer in module.modules() if isinstance(layer, AUTOCAST_LAYERS) and dtype != torch.float32]
    stored = [layer for layer in layers if not any(p.requires_grad for p in layer.parameters())]
    return {id(parameter): dtype for layer in stored for parameter in layer.parameters()}


def _fake(network: Network, dtypes: Mapping[int, torch.dtype]) -> Network:
    """Return a copy of `network` on the CPU, without data."""
    memo: dict[int, Tensor] = {}
    plain = (value for part in network.modules() for value in vars(part).values() if isinstance(value, Tensor))
    for tensor in chain(network.parameters(), network.buffers(), plain):
        memo[id(tensor)] = torch.empty(tensor.shape, dtype=dtypes.get(id(tensor), tensor.dtype))
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(memo[id(tensor)], requires_grad=tensor.requires_grad)
    return deepcopy(network, memo)
