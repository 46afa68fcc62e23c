"""Move tensors to a device; convert images between files, uint8 (b, h, w, 3), and networks, float; resize them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

_BAND = 256


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on `device`; on a GPU the copy waits for nothing, and nothing waits for it."""
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)


def to_float(images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Convert uint8 images to float32 in [0, 1], contiguous."""
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def to_uint8(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w 3"]:
    """Convert images in [0, 1] to uint8, clamped and rounded to the nearest level."""
    result = torch.empty(images.shape[0], *images.shape[2:], 3, dtype=torch.uint8, device=images.device)
    # In bands, so that a large image is not copied as float.
    for top in range(0, images.shape[2], _BAND):
        levels = images[:, :, top : top + _BAND].float().clamp(0, 1).mul_(255).round_()
        result[:, top : top + _BAND] = levels.to(torch.uint8).permute(0, 2, 3, 1)
    return result


def resize_bicubic(images: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Float[Tensor, "b 3 h2 w2"]:
    """Resize to `size` = (height, width) by bicubic interpolation and clamp to [0, 1], as official pairs are enlarged.

    No antialiasing, half-pixel centers (utils_data/make_paired_data.py, F.interpolate).
    """
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False).clamp_(0, 1)


def existing_dtype(name: str, device: str) -> str:
    """Return `name`; for "auto" return the precision of the official script on a GPU, float16, and else "float32"."""
    if name != "auto":
        return name
    return "float16" if torch.device(device).type == "cuda" else "float32"
