"""Which file of a folder holds a network's weights: safetensors or .bin, in full precision or as an fp16 variant."""

from pathlib import Path
from typing import Any

import torch

# By diffusers' name and by transformers'; the first that is there is read.
_STEMS = (
    "diffusion_pytorch_model{}.safetensors",
    "diffusion_pytorch_model{}.bin",
    "model{}.safetensors",
    "pytorch_model{}.bin",
)
_VARIANTS = ("", ".fp16")


def from_folder(network: type[Any], folder: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return the `network`, a class of diffusers or transformers, of a folder, whichever way its weights lie there."""
    return network.from_pretrained(folder, dtype=dtype, **loading(folder))


def weights_file(folder: str | Path) -> Path | None:
    """Return the weights in a folder of diffusers or transformers; None where there are none, or in several parts."""
    paths = (Path(folder) / stem.format(variant) for variant in _VARIANTS for stem in _STEMS)
    return next((path for path in paths if path.is_file()), None)


def loading(folder: str | Path) -> dict[str, Any]:
    """Return what `from_pretrained` must be told to read the weights in `folder`; {} where they are as it expects."""
    path = weights_file(folder)
    if path is None:
        return {}
    told = {} if path.suffix == ".safetensors" else {"use_safetensors": False}
    return told | ({"variant": "fp16"} if ".fp16." in path.name else {})
