"""Which weights train, in what precision the others are kept, and what copies share."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# The layers that autocast runs in low precision, so that storing their weights so changes no result.
_AUTOCAST_LAYERS = (nn.Linear, nn.Conv2d)


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
