"""How pairs of uint8 pictures become RAM's input, in distillation and wherever its result is judged."""

from typing import Literal, NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor

from seesr_pl.imaging.tensors import resize_bicubic, to_float
from seesr_pl.models.ram import ram_pixel_values


class RAMInputs(NamedTuple):
    """The defaults are the official distillation's (dape_dataset.py:46-50, make_paired_data_DAPE.py).

    `lq_upscale`: "bicubic" enlarges the LQ to the HQ's size first, as the official pairs are stored; "none" does not.
    `mode` and `antialias` are those of the resize to RAM's square.
    """

    size: int = 384
    lq_upscale: Literal["bicubic", "none"] = "bicubic"
    mode: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False

    def hq(self, hq: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 s s"]:
        """What the teacher sees."""
        return ram_pixel_values(to_float(hq), size=self.size, mode=self.mode, antialias=self.antialias)

    def lq(self, lq: UInt8[Tensor, "b h w 3"], hq_size: tuple[int, int]) -> Float[Tensor, "b 3 s s"]:
        """What the student sees; `hq_size` is the (height, width) of the HQ picture."""
        images = to_float(lq)
        if self.lq_upscale == "bicubic":
            images = resize_bicubic(images, hq_size)
        return ram_pixel_values(images, size=self.size, mode=self.mode, antialias=self.antialias)
