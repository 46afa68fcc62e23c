"""The memory that SeeSR's training step needs at full size, computed without a device.

    python benchmarks/memory_budget.py [--size 512]

Weights, gradients and optimizer states are counted. Activations are the tensors that the forward pass of UNet and
ControlNet keeps for the backward pass, found on tensors without data, with a fused attention kernel and the CPU's
autocast rules. A GPU keeps normalizations in float32, so that its figure under bf16-mixed lies between the two columns.
Temporary memory (the VAE's encoder, the recomputed block, workspaces, fragmentation) is not included.
"""

import argparse
from copy import deepcopy
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.frozen import cast_frozen

GIB = 2**30
Network = TypeVar("Network", bound=nn.Module)


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    size = parser.parse_args().size
    with torch.device("meta"):
        module, low = (SeeSRDiffusion(random_stack()) for _ in range(2))
    cast_frozen(low, torch.bfloat16)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad) * 4 / GIB
    print("| once | GiB |\n| --- | --- |")
    print(f"| trainable weights, float32 | {trained:.2f} |\n| their gradients | {trained:.2f} |")
    print(f"| AdamW | {2 * trained:.2f} |\n| AdamW in 8 bits | {trained / 2:.2f} |")
    print(f"| frozen weights, float32 | {_frozen_gib(module):.2f} |")
    print(f"| frozen weights, frozen_dtype=bfloat16 | {_frozen_gib(low):.2f} |")
    print(
        "\n| activations | float32, GiB per image | bf16-mixed, GiB per image | bf16-mixed, GiB once |\n| --- |"
        + " --- |" * 3
    )
    for checkpointing in (False, True):
        full, _ = activations(module, size=size, checkpointing=checkpointing, autocast=False)
        mixed, once = activations(low, size=size, checkpointing=checkpointing, autocast=True)
        name = "gradient checkpointing" if checkpointing else "no checkpointing"
        print(f"| {name} | {full:.2f} | {mixed:.2f} | {once:.2f} |", flush=True)


def activations(module: SeeSRDiffusion, *, size: int, checkpointing: bool, autocast: bool) -> tuple[float, float]:
    """Return GiB per image, and GiB regardless of their number (copies of weights in low precision)."""
    for network in (module.unet, module.controlnet):
        (network.enable_gradient_checkpointing if checkpointing else network.disable_gradient_checkpointing)()
    one, two = (_kept_bytes(module, number, size=size, autocast=autocast) / GIB for number in (1, 2))
    return two - one, 2 * one - two


def _kept_bytes(module: SeeSRDiffusion, number: int, *, size: int, autocast: bool) -> int:
    with FakeTensorMode() as mode:
        networks = {"unet": _fake(module.unet), "controlnet": _fake(module.controlnet)}
    copy = SeeSRDiffusion(module.stack._replace(**networks))
    with mode:
        weights = {parameter.untyped_storage()._cdata for parameter in copy.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
            return tensor

        latents = torch.empty(number, 4, size // 8, size // 8)
        text, image = torch.empty(number, 77, 1024), torch.empty(number, 3, size, size)
        condition = Condition(text, torch.empty(number, 145, 512), image)
        with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            timesteps = torch.zeros(number, dtype=torch.int64)
            predict(copy.unet, copy.controlnet, latents, timesteps, condition).float().square().mean()
        return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in weights)


def _fake(network: Network) -> Network:
    """Return a copy of `network` on the CPU, without data."""
    memo: dict[int, Tensor] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        memo[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(memo[id(tensor)], requires_grad=tensor.requires_grad)
    return deepcopy(network, memo)


def _frozen_gib(module: SeeSRDiffusion) -> float:
    return sum(p.numel() * p.element_size() for p in module.parameters() if not p.requires_grad) / GIB


if __name__ == "__main__":
    main()
