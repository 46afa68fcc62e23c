"""Read the weights of a network that was exported to ncnn: a text file of layers and a binary file of tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FLOAT16 = 0x01306B47
"""The tag before weights of half precision (ncnn's ModelBinFromDataReader::load); 0 stands before float32."""


def read_convolutions(param: str | Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weight and bias (float32, flat) of each convolution of the layers file `param`, in its order.

    The tensors are read from the file of the same name that ends in `.bin`. Raises ValueError where the two do not
    belong together, or weights are stored in another form.
    """
    path = Path(param)
    content, place = path.with_suffix(".bin").read_bytes(), 0
    for line in path.read_text().splitlines():
        if not line.startswith("Convolution "):
            continue
        sizes = dict(word.split("=", 1) for word in line.split() if word[0].isdigit() and "=" in word)
        num_biases, num_weights = int(sizes["0"]), int(sizes["6"])
        tag = int.from_bytes(content[place : place + 4], "little")
        end = place + 4 + -(-2 * num_weights // 4) * 4  # padded to 4 bytes
        if tag != FLOAT16 or end + 4 * num_biases > len(content):
            raise ValueError(f"{path.with_suffix('.bin')} does not hold the float16 weights that {path} lists")
        weight = np.frombuffer(content, "<f2", num_weights, place + 4)
        bias = np.frombuffer(content, "<f4", num_biases, end)
        yield torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.copy())
        place = end + 4 * num_biases
    if place != len(content):
        raise ValueError(f"{path.with_suffix('.bin')} holds {len(content):,} bytes, {path} lists {place:,}")
