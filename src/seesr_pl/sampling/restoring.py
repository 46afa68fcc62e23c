"""Restore images with keyed noise, alone or together to the same end, or as upstream, with generators for a folder."""

import base64
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seesr_pl import keyed
from seesr_pl.sampling.images import RGB, Restored
from seesr_pl.sampling.pipeline import SeeSRPipeline
from seesr_pl.sampling.settings import Sampling

OnStep = Callable[[int], object]
"""Called after each step with the number of images that have made it."""


class OfficialDraws:
    """The two generators of `recipe="official"`: the pipeline's, and torch's global one, which it draws from besides.

    One value serves all images of a folder in turn (test_seesr.py:104-107, 127).
    """

    def __init__(self, pipeline: SeeSRPipeline, *, seed: int, global_seed: int) -> None:
        self._device = torch.device(pipeline._execution_device)
        self.generator = torch.Generator(self._device).manual_seed(seed)
        self._global = torch.Generator(self._device).manual_seed(global_seed)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let torch's global generator be the one of the draws; afterwards it is as it was."""
        on_cpu = self._device.type == "cpu"
        get: Callable[[], Tensor] = torch.get_rng_state if on_cpu else lambda: torch.cuda.get_rng_state(self._device)
        put: Any = torch.set_rng_state if on_cpu else lambda state: torch.cuda.set_rng_state(state, self._device)
        with torch.random.fork_rng([] if on_cpu else [self._device]):
            put(self._global.get_state())
            yield
            self._global.set_state(get())

    def state(self) -> list[str]:
        """Return where the generators are, as text for `go_on`."""
        states = (each.get_state().numpy().tobytes() for each in (self.generator, self._global))
        return [base64.b64encode(zlib.compress(state)).decode() for state in states]

    def go_on(self, state: Sequence[str]) -> None:
        """Go on from `state`."""
        for generator, text in zip((self.generator, self._global), state, strict=True):
            content = bytearray(zlib.decompress(base64.b64decode(text)))
            generator.set_state(torch.frombuffer(content, dtype=torch.uint8))


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
    draws: OfficialDraws | None = None,
) -> Restored:
    """Restore one image; the result depends only on the image, the pipeline, the settings and (seed, key).

    `rgb` is uint8 (h, w, 3). `key` names the image, so that images of one seed have noise of their own. `tags`,
    `prompt` and `sampling` are as in the pipeline's call. Under `recipe="official"` with `draws`, it depends on these
    instead of (seed, key).
    """
    told: Any = {"tags": tags, "sampling": sampling, "callback_on_step_end": _step(on_step)}
    own = keyed.torch_generator(seed, "restore", key)
    if (sampling or pipeline.sampling).recipe == "official":
        draws = draws or OfficialDraws(pipeline, seed=own.initial_seed(), global_seed=keyed.key(seed, "official", key))
        with draws.in_place():
            output = pipeline(rgb, prompt, generator=draws.generator, **told)
    else:
        output = pipeline(rgb, prompt, generator=own, **told)
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
    draws: OfficialDraws | None = None,
) -> list[Restored]:
    """Restore each image as `restore` does, those of equal size together, `batch_size` at a time.

    `keys` and `tags` hold one an image; where the tags are None, the pipeline finds them. The official recipe, which
    draws from a generator that all images share (`draws`), takes one image at a time.
    """
    if (sampling or pipeline.sampling).recipe == "official":
        alone = zip(rgbs, keys, tags, strict=True)
        return [
            restore(pipeline, rgb, seed=seed, key=key, sampling=sampling, tags=own, on_step=on_step, draws=draws)
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
