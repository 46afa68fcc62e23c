"""How the networks of a training step are compiled."""

from collections.abc import Iterable
from typing import Any, Literal

import torch

from seesr_pl.models.stack import SeeSRStack

Compiled = Literal["none", "whole", "blocks"]
CompiledFrozen = Literal["none", "default", "graphs"]
# Blocks share a compiled graph where they are alike; at full size there are more kinds than torch allows by itself.
_MAX_GRAPHS = 64


def compile_networks(networks: Iterable[Any], how: Compiled) -> None:
    """Compile networks of diffusers as a whole, or each of the transformer blocks that repeat in them."""
    if how == "none":
        return
    import torch._dynamo  # here, because it is slow to import

    torch._dynamo.config.recompile_limit = _MAX_GRAPHS
    for network in networks:
        network.compile() if how == "whole" else network.compile_repeated_blocks()


def compile_frozen(stack: SeeSRStack, how: CompiledFrozen) -> None:
    """Compile VAE, text encoder and RAM; "graphs" records the first two, whose shapes are fixed, as CUDA graphs.

    `begin_step` has to be called before each step then. How many images RAM tags differs from step to step.
    """
    if how == "none":
        return
    vae: Any = stack.vae
    text_encoder: Any = stack.text_encoder
    for network in (*vae.children(), text_encoder):
        network.compile(mode="reduce-overhead" if how == "graphs" else None)
    stack.ram.visual_encoder.compile()
    stack.ram.tagging_head.compile()


def begin_step() -> None:
    """Let CUDA graphs overwrite what they gave in the step before."""
    torch.compiler.cudagraph_mark_step_begin()
