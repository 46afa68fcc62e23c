"""Restore images whose noise is keyed: alone or among others, an image ends as the same to float error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seesr_pl import keyed
from seesr_pl.sampling.images import RGB
from seesr_pl.sampling.pipeline import Restored, SeeSRPipeline
from seesr_pl.sampling.settings import Sampling

OnStep = Callable[[int], object]
"""Called after each step with the number of images that have made it."""


def restore(
    pipeline: SeeSRPipeline,
    rgb: RGB,
    *,
    seed: int,
    key: int | str,
    sampling: Sampling | None = None,
    tags: str | None = None,
    prompt: str | None = None,
    on_step: OnStep | None = None,
) -> Restored:
    """Restore one image; the result depends only on the image, the pipeline, the settings and (seed, key).

    `rgb` is uint8 (h, w, 3). `key` names the image, so that images of one seed have noise of their own. `tags`,
    `prompt` and `sampling` are as in the pipeline's call.
    """
    official = (sampling or pipeline.sampling).recipe == "official"
    # The official recipe draws from torch's global generator too.
    with torch.random.fork_rng(enabled=official):
        if official:
            torch.manual_seed(keyed.key(seed, "official", key))
        generator = keyed.torch_generator(seed, "restore", key)
        output = pipeline(
            rgb, prompt, tags=tags, generator=generator, sampling=sampling, callback_on_step_end=_step(on_step)
        )
    return Restored(np.asarray(output.images[0]), output.tags[0])


def restore_all(
    pipeline: SeeSRPipeline,
    rgbs: Sequence[RGB],
    *,
    seed: int,
    keys: Sequence[int | str],
    sampling: Sampling | None = None,
    tags: Sequence[str | None],
    on_step: OnStep | None = None,
) -> list[Restored]:
    """Restore each image as `restore` does, those of equal size together, `batch_size` at a time.

    `keys` and `tags` hold one an image; where the tags are None, the pipeline finds them. The official recipe, which
    draws from a generator that all images share, takes one image at a time.
    """
    if (sampling or pipeline.sampling).recipe == "official":
        alone = zip(rgbs, keys, tags, strict=True)
        return [
            restore(pipeline, rgb, seed=seed, key=key, sampling=sampling, tags=own, on_step=on_step)
            for rgb, key, own in alone
        ]
    generators = [keyed.torch_generator(seed, "restore", key) for key in keys]
    output = pipeline(
        list(rgbs), tags=tags, generator=generators, sampling=sampling, callback_on_step_end=_step(on_step)
    )
    return [Restored(np.asarray(image), text) for image, text in zip(output.images, output.tags, strict=True)]


def _step(on_step: OnStep | None) -> Callable[..., dict[str, Tensor]]:
    def step(pipe: Any, index: int, timestep: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if on_step is not None:
            on_step(len(values["latents"]))
        return values

    return step
