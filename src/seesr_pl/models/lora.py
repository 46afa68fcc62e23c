"""A LoRA in place of the weights that SeeSR trains, and how it becomes part of them."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

# The linear layers of a transformer: attention and feed-forward.
_LAYERS = r"(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2)"


def add_lora(unet: nn.Module, controlnet: nn.Module, *, rank: int, rca: bool) -> None:
    """Freeze both networks and add a LoRA to the ControlNet's transformers and, with `rca`, to the UNet's RCA.

    It has no effect before it is trained, and scale 1 (`lora_alpha` equals `rank`). Raises ValueError where a network
    has no such layer.
    """
    inside = r"(?!.*image_attentions)" if not rca else ""
    targets = {controlnet: rf"{inside}.*\.{_LAYERS}", unet: rf".*image_attentions\..*\.{_LAYERS}" if rca else ""}
    for network, pattern in targets.items():
        network.requires_grad_(False)
        if pattern:
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=pattern)
            inject_adapter_in_model(config, network)


@torch.no_grad()
def merge_lora(network: nn.Module) -> bool:
    """Add the LoRA of `network` to its weights, which then have the names that they had before it; tell if it had one.

    Results are equal to float error.
    """
    found = False
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
                found = True
    return found
