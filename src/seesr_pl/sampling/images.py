"""An input image as RGB, as the enlarged image that the networks work on, and as the result of the wanted size."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar, cast

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from seesr_pl.imaging.color_fix import ColorFix, fix_colors
from seesr_pl.imaging.io import eight_bit
from seesr_pl.imaging.tensors import to_uint8

MAX_PIXELS = 2**27
"""Largest number of pixels of the enlarged image that the networks work on."""
MAX_ASPECT = 64
"""Largest ratio of the sides of an image that is enlarged until its shortest one is `process_size`."""

T = TypeVar("T", str, str | None)
RGB = UInt8[np.ndarray, "h w 3"]
"""An RGB image as data and files hold it."""
AnyImage = Image.Image | np.ndarray | Tensor
"""PIL, uint8 RGB array (h, w, 3), or float tensor (3, h, w) in [0, 1]."""
_OVERSHOOT = 0.5
"""How far a tensor may leave [0, 1], as bicubic interpolation does, before it must be another range."""


class Work(NamedTuple):
    """The image that the networks work on: bicubically enlarged and padded.

    Sizes are (height, width): `size` is that of `image` without padding, `target` that of the result.
    """

    image: RGB
    size: tuple[int, int]
    target: tuple[int, int]


class Restored(NamedTuple):
    """One restored image, uint8 RGB (h, w, 3), and the tags in its prompt."""

    rgb: RGB
    tags: str


def prepare(
    rgb: RGB,
    upscale: float,
    *,
    multiple: int,
    recipe: Literal["default", "official"] = "default",
    process_size: int = 512,
) -> Work:
    """Enlarge `rgb` as the official script does (test_seesr.py:149-160), sides made multiples of `multiple`.

    By default the image is padded, and `finish` cuts the padding off; `recipe="official"` shrinks the image instead and
    truncates sizes on the way (a short side of 49, 98, 103 or 107 ends at 504 instead of 512). An image whose shortest
    side, in pixels of the result, is below `process_size` is enlarged to it first (test_seesr.py:251). Raises
    ValueError beyond MAX_PIXELS, beyond MAX_ASPECT where so enlarged, and where `upscale` leaves no pixel.
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
            f"{width}x{height} pixels need a working image of {size[1]}x{size[0]} (shortest side at least "
            f"{process_size}); the limit is {MAX_PIXELS} pixels: crop the image, or lower upscale={upscale}"
        )
    if scale > 1 and max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"{width}x{height} pixels need a working image of {size[1]}x{size[0]} (shortest side at least "
            f"{process_size}); the sides of one that is enlarged so may be as {MAX_ASPECT} to 1 at most: crop the "
            f"image, or give process_size={max(min(target), 8)} or less"
        )
    image = _resized(_resized(rgb, enlarged), size)
    if recipe == "official":
        size = size[0] // multiple * multiple, size[1] // multiple * multiple
        return Work(_resized(image, size), size, target)
    padding = [(0, -side % multiple) for side in size]
    return Work(np.pad(image, [*padding, (0, 0)], mode="symmetric"), size, target)


def check_tiles(work: Work, multiple: int, *, tile: int, overlap: int) -> None:
    """Raise ValueError where the latent of `work` needs tiles, and is too thin for them to overlap."""
    height, width = (side // multiple for side in work.image.shape[:2])
    if height * width > tile**2 and min(height, width) <= overlap:
        raise ValueError(
            f"the working image of {work.size[1]}x{work.size[0]} pixels needs latent tiles of {min(height, width)} "
            f"points, which must be more than overlap={overlap}: lower overlap, raise process_size, or crop the image"
        )


def finish(restored: RGB, work: Work, *, color_fix: ColorFix) -> RGB:
    """Return the result: padding cut off, colors fixed to the enlarged input's, resized to `work.target` if need be."""
    height, width = work.size
    images, reference = (torch.from_numpy(rgb[None, :height, :width]) for rgb in (restored, work.image))
    return _resized(fix_colors(images, reference, method=color_fix)[0].numpy(), work.target)


def prompt_text(tags: str, prompt: str, added_prompt: str) -> str:
    """Return the official prompt; its stray commas stay, as in the released results (test_seesr.py:142, 185)."""
    return f"{tags}, {prompt},{added_prompt}"


def each_image(image: AnyImage | Sequence[AnyImage]) -> list[RGB]:
    """Return as uint8 RGB one image, a batch (b, h, w, 3) or (b, 3, h, w) of them, or each of a list of such.

    Raises ValueError where there is none, and as `as_rgb` does.
    """
    if not isinstance(image, list | tuple):
        is_batch = isinstance(image, np.ndarray | Tensor) and image.ndim == 4
        return [as_rgb(one) for one in cast(np.ndarray, image)] if is_batch else [as_rgb(cast(AnyImage, image))]
    if not image:
        raise ValueError("image=[] holds no image; give at least one")
    return [rgb for one in image for rgb in each_image(one)]


def as_rgb(image: AnyImage) -> RGB:
    """Return uint8 RGB (h, w, 3) of a PIL image, a uint8 RGB array, or a float tensor (3, h, w) in [0, 1].

    Transparency in a PIL image is dropped. Raises ValueError for other shapes, types and ranges.
    """
    if isinstance(image, Image.Image):
        deep = image.mode.startswith(("I", "F"))
        return np.array((Image.fromarray(eight_bit(image)) if deep else image).convert("RGB"))
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(f"an image is given as PIL, array or tensor, not as {type(image).__name__}: open files first")
    rgb = _from_tensor(image) if isinstance(image, Tensor) else image
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"an image of shape {rgb.shape} and type {rgb.dtype} is not uint8 RGB (h, w, 3)")
    return rgb if rgb.flags.writeable else rgb.copy()  # torch warns of arrays that it could not write to


def one_each(texts: T | Sequence[T], count: int, *, name: str) -> list[T]:
    """Return a text, or None, for each of `count` images; ValueError for a list of another length or of no texts."""
    if texts is None or isinstance(texts, str):
        return [texts] * count
    if len(texts) != count:
        raise ValueError(f"{name} has {len(texts)} entries for {count} images; give one text, or one an image")
    if not all(isinstance(text, str | None) for text in texts):
        raise ValueError(f"{name}={list(texts)!r} must hold texts alone")
    return list(texts)


def generators_for(
    generator: torch.Generator | list[torch.Generator] | None, count: int, *, recipe: Literal["default", "official"]
) -> list[torch.Generator] | None:
    """Return one generator for each image: those given, or copies of the one given in its present state.

    The first of the copies is the given one itself. `recipe="official"` uses one for all images in turn; if none is
    given it has torch's constant default seed, as the official code's unseeded Generator. Raises ValueError for a list
    of another length.
    """
    if isinstance(generator, list):
        if len(generator) != count:
            raise ValueError(f"generator has {len(generator)} entries for {count} images; give one, or one an image")
        return generator
    if recipe == "official":
        return [generator or torch.Generator()] * count
    if generator is None:
        return None
    state = generator.get_state()
    copies = [torch.Generator(generator.device) for _ in range(count - 1)]
    return [generator, *(copy.set_state(state) for copy in copies)]


def _from_tensor(image: Tensor) -> RGB:
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"an image of shape {tuple(image.shape)} is no tensor (3, h, w)")
    low, high = (float(bound) for bound in image.aminmax()) if image.numel() else (0.0, 0.0)
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # NaN fails too
        raise ValueError(f"an image with values from {low:g} to {high:g} is no tensor in [0, 1]; rescale it first")
    return to_uint8(image.detach().cpu()[None])[0].numpy()


def _resized(rgb: RGB, size: tuple[int, int]) -> RGB:
    if rgb.shape[:2] == size:
        return rgb
    # Pillow's bicubic, as upstream; it antialiases where it shrinks.
    return np.array(Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.BICUBIC))
