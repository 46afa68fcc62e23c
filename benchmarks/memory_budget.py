"""The memory that SeeSR's training step needs at full size, computed without a device.

    python benchmarks/memory_budget.py [--size 512]

Weights, gradients and optimizer states are counted. Activations are the tensors that the forward pass of UNet and
ControlNet keeps for the backward pass, found on tensors without data, with a fused attention kernel and the CPU's
autocast rules. A GPU keeps normalizations in float32, so that its figure under bf16-mixed lies between the two columns.
Other temporary memory (the VAE's encoder, the recomputed block, workspaces, fragmentation) is not included.
"""

import argparse

import torch

from seesr_pl.checkpoints.stack import random_stack
from seesr_pl.training import SeeSRDiffusion
from seesr_pl.training.estimate import activations, memory


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    size = parser.parse_args().size
    with torch.device("meta"):
        module, low = (SeeSRDiffusion(random_stack(), frozen_dtype=dtype) for dtype in ("float32", "bfloat16"))
    cut = {"micro_batch_size": 1, "crop_size": size, "num_devices": 2}
    full, held = memory(module, **cut), memory(low, precision="bf16-mixed", **cut)
    print("| once | GiB |\n| --- | --- |")
    print(f"| trainable weights, float32 | {held.trainable:.2f} |\n| their gradients | {held.gradients:.2f} |")
    print(f"| DDP's buckets of gradients, on several devices | {held.buckets:.2f} |")
    print(f"| AdamW | {held.optimizer:.2f} |\n| AdamW in 8 bits | {held.optimizer / 4:.2f} |")
    print(f"| AdamW's temporary tensors, on a GPU, when the activations are gone | {held.temporary:.2f} |")
    print(f"| frozen weights, float32 | {full.frozen:.2f} |")
    print(f"| frozen weights, frozen_dtype=bfloat16 | {held.frozen:.2f} |")
    print(
        "\n| activations | float32, GiB per image | bf16-mixed, GiB per image | bf16-mixed, GiB once |\n| --- |"
        + " --- |" * 3
    )
    for checkpointing in (False, True):
        for network in (module.unet, module.controlnet, low.unet, low.controlnet):
            (network.enable_gradient_checkpointing if checkpointing else network.disable_gradient_checkpointing)()
        in_full = activations(module, crop_size=size, precision="32-true")
        mixed = activations(low, crop_size=size, precision="bf16-mixed")
        name = "gradient checkpointing" if checkpointing else "no checkpointing"
        print(f"| {name} | {in_full.per_image:.2f} | {mixed.per_image:.2f} | {mixed.once:.2f} |", flush=True)


if __name__ == "__main__":
    main()
