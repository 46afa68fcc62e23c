"""Values that cross a boundary between two floors."""

from typing import TypedDict

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

RGB = UInt8[np.ndarray, "h w 3"]
"""An image in memory and in files: 8 bits, red, green, blue, channel last."""


class Batch(TypedDict):
    """What a data loader yields, before anything is moved to a device.

    Images are uint8 RGB with the channel last, (b, h, w, 3); `lq` is a quarter of `hq` on each side.
    """

    hq: Tensor
    lq: Tensor
    key: list[str]
    sample_id: Tensor
    epoch: Tensor
    severity: Tensor
    tags: list[str]
