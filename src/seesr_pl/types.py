"""Types that several packages share."""

from typing import NotRequired, TypedDict

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

RGB = UInt8[np.ndarray, "h w 3"]
"""An image in memory and in files: 8 bits, red, green, blue, channel last."""


class Batch(TypedDict):
    """A batch from a data loader, on the CPU.

    `hq` and `lq` are uint8 RGB, channel last, (b, h, w, 3); a side of `lq` is the degradation's scale smaller.
    `sample_id` and `epoch` are int64 (b,) and key all random draws; `severity` is float32 (b,) in [0, 1]; `kind` names
    what degraded an image most, "" where that is not known.
    """

    hq: Tensor
    lq: Tensor
    key: list[str]
    sample_id: Tensor
    epoch: Tensor
    severity: Tensor
    kind: NotRequired[list[str]]
    tags: list[str]
