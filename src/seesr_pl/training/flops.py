"""What a training step costs, counted on tensors that have shapes but no data."""

from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seesr_pl.models.denoiser import Condition, predict
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.training.seesr import SeeSRDiffusion

Network = TypeVar("Network")


class StepFlops(NamedTuple):
    """Floating-point operations for one image, a multiplication with addition as two; recomputation not counted."""

    networks: int
    vae: int
    text: int
    representation: int
    tags: int

    @property
    def total(self) -> int:
        """All of the step."""
        return sum(self)


def step_flops(module: SeeSRDiffusion, *, size: int) -> StepFlops:
    """The cost of a training step of `module` for an HQ crop of `size` pixels a side.

    `networks` is UNet and ControlNet, forward and backward; `tags` is RAM on the share of crops that it tags.
    """
    stack = on_meta(module.stack)
    vae: Any = stack.vae
    stack.unet.disable_gradient_checkpointing()
    stack.controlnet.disable_gradient_checkpointing()
    image = torch.empty(1, 3, size, size, device="meta")
    side = stack.ram.config.image_size
    pixels = torch.empty(1, 3, side, side, device="meta")
    tokens = torch.zeros(1, stack.tokenizer.model_max_length, dtype=torch.int64, device="meta")
    latents = vae.encode(image).latent_dist.mode()
    text, representation = stack.text_encoder(tokens)[0], stack.ram.representation(pixels)
    tagged = 1 - module.prompt_drop_probability if module.tags in ("ram", "dape") else 0
    represented = module.rca and module.representation != "none"

    def learn() -> None:
        condition = Condition(text, representation if module.rca else None, image)
        timesteps = torch.zeros(1, dtype=torch.int64, device="meta")
        prediction = predict(stack.unet, stack.controlnet, latents, timesteps, condition)
        prediction.square().mean().backward()

    return StepFlops(
        networks=counted(learn),
        vae=counted(lambda: vae.encode(image)),
        text=counted(lambda: stack.text_encoder(tokens)),
        representation=counted(lambda: stack.ram.representation(pixels)) if represented else 0,
        tags=round(tagged * counted(lambda: stack.ram.tag_logits(stack.ram.representation(pixels)))),
    )


def counted(function: Callable[[], Any]) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def on_meta(stack: SeeSRStack) -> SeeSRStack:
    """The same networks without their data; takes no memory."""
    return stack._replace(
        vae=_on_meta(stack.vae),
        text_encoder=_on_meta(stack.text_encoder),
        unet=_on_meta(stack.unet),
        controlnet=_on_meta(stack.controlnet),
        ram=_on_meta(stack.ram),
        # A scheduler moves its tables to the device of what it is given.
        scheduler=deepcopy(stack.scheduler),
    )


def _on_meta(network: Network) -> Network:
    assert isinstance(network, nn.Module)
    # What deepcopy finds in its memo it does not copy: so the weights are never there twice.
    memo: dict[int, Tensor] = {}
    for tensor in chain(network.parameters(), network.buffers()):
        memo[id(tensor)] = torch.empty_like(
            tensor, dtype=torch.float32 if tensor.is_floating_point() else None, device="meta"
        )
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(memo[id(tensor)], requires_grad=tensor.requires_grad)
    return deepcopy(network, memo)
