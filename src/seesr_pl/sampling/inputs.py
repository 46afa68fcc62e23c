"""What a user hands to the pipeline, brought to one form: pictures, texts, generators, groups."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seesr_pl.imaging.tensors import to_uint8
from seesr_pl.sampling.denoising import Generators
from seesr_pl.sampling.pictures import RGB, Recipe, Work

Images = Image.Image | np.ndarray | Tensor


def prompt_text(tags: str, prompt: str, added_prompt: str) -> str:
    """The official prompt, its stray commas included: released results have them (test_seesr.py:142, 185)."""
    return f"{tags}, {prompt},{added_prompt}"


def as_rgb(picture: Images) -> RGB:
    """uint8 RGB (h, w, 3) of a PIL picture, of such an array, or of a float tensor (3, h, w) in [0, 1].

    Transparency in a PIL picture is dropped. ValueError for other shapes.
    """
    if isinstance(picture, Image.Image):
        return np.array(picture.convert("RGB"))
    rgb = to_uint8(picture.detach().cpu()[None])[0].numpy() if isinstance(picture, Tensor) else picture
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a picture of shape {rgb.shape} and type {rgb.dtype} is not uint8 RGB (h, w, 3)")
    return rgb if rgb.flags.writeable else rgb.copy()  # torch warns of arrays that it could not write to


def one_each(texts: str | Sequence[str], count: int, *, name: str) -> list[str]:
    """`texts` for each of `count` pictures; ValueError where a list has another length."""
    if isinstance(texts, str):
        return [texts] * count
    if len(texts) != count:
        raise ValueError(f"{name} has {len(texts)} entries for {count} pictures; give one text, or one a picture")
    return list(texts)


def generators_for(generator: Generators | None, count: int, *, recipe: Recipe) -> list[torch.Generator] | None:
    """One generator a picture: those given, or copies of the one given in its present state.

    The first picture's is the given one itself. `recipe="official"` uses the same one for all, in turn, and without
    one torch's constant default seed (as the official code's unseeded Generator has).
    """
    if isinstance(generator, list):
        if len(generator) != count:
            raise ValueError(f"generator has {len(generator)} entries for {count} pictures; give one, or one a picture")
        return generator
    if recipe == "official":
        return [generator or torch.Generator()] * count
    if generator is None:
        return None
    state = generator.get_state()
    copies = [torch.Generator(generator.device) for _ in range(count - 1)]
    return [generator, *(copy.set_state(state) for copy in copies)]


def groups_of_equal_size(works: Sequence[Work], batch_size: int) -> Iterator[list[int]]:
    """Positions of pictures to work on together: equal in size, at most `batch_size`."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for row, work in enumerate(works):
        by_size.setdefault(work.picture.shape, []).append(row)
    for rows in by_size.values():
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]
