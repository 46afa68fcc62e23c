"""From the user's picture to the one the networks work on, and back to exactly `upscale` times the input."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from seesr_pl.imaging.color_fix import ColorFix, fix_colors

PROCESS_SIZE = 512
"""Shortest side the networks get, in pixels of the result (test_seesr.py:251): smaller pictures are enlarged first."""
MAX_PIXELS = 2**27
"""Most pixels of a result while it is worked on."""

Recipe = Literal["default", "official"]
RGB = UInt8[np.ndarray, "h w 3"]


class Work(NamedTuple):
    """A picture at work: bicubically enlarged and padded `picture`, the part `size` of it that counts, and `target`.

    Sizes are (height, width). `target` is that of the result.
    """

    picture: RGB
    size: tuple[int, int]
    target: tuple[int, int]


def prepare(
    rgb: RGB, upscale: float, *, multiple: int, recipe: Recipe = "default", process_size: int = PROCESS_SIZE
) -> Work:
    """Enlarges `rgb` as the official script does (test_seesr.py:149-160), sides made multiples of `multiple`.

    By default by padding, which is cut off again; `recipe="official"` shrinks the picture instead and truncates sizes
    on the way (a short side of 49, 98, 103 or 107 ends at 504 instead of 512). ValueError beyond MAX_PIXELS.
    """
    height, width = rgb.shape[:2]
    target = round(height * upscale), round(width * upscale)
    if min(target) < 1:
        raise ValueError(f"upscale={upscale} makes nothing of {width}x{height} pixels")
    smallest = process_size // upscale
    whole = int if recipe == "official" else round
    scale = max(1.0, smallest / min(height, width))
    enlarged = whole(height * scale), whole(width * scale)
    size = round(enlarged[0] * upscale), round(enlarged[1] * upscale)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{width}x{height} pixels need a working picture of {size[1]}x{size[0]} (shortest side at least "
            f"{process_size}); the limit is {MAX_PIXELS} pixels: crop the picture, or lower upscale={upscale}"
        )
    picture = _resized(_resized(rgb, enlarged), size)
    if recipe == "official":
        size = size[0] // multiple * multiple, size[1] // multiple * multiple
        return Work(_resized(picture, size), size, target)
    padding = [(0, -side % multiple) for side in size]
    return Work(np.pad(picture, [*padding, (0, 0)], mode="symmetric"), size, target)


def finish(restored: RGB, work: Work, *, color_fix: ColorFix) -> RGB:
    """The result: padding cut off, colours fixed against the enlarged input, resized to `work.target` if need be."""
    height, width = work.size
    images, reference = (torch.from_numpy(rgb[None, :height, :width]) for rgb in (restored, work.picture))
    return _resized(fix_colors(images, reference, method=color_fix)[0].numpy(), work.target)


def _resized(rgb: RGB, size: tuple[int, int]) -> RGB:
    if rgb.shape[:2] == size:
        return rgb
    # Pillow's bicubic, as upstream; it antialiases where it shrinks.
    return np.array(Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.BICUBIC))
