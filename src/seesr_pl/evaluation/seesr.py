"""SeeSR as a method to judge: a pipeline with the settings of one published or tried result."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from seesr_pl import keyed
from seesr_pl.files import MissingFile
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.prompts import Prompter, PromptStyle, missing_prompt_model
from seesr_pl.models.prompts import prompter as make_prompter
from seesr_pl.types import RGB


class SeeSRMethod:
    """SeeSR itself: a `SeeSRPipeline` with the settings of one published or tried result.

    The noise of an image is keyed by (seed, name): it depends neither on the other images nor on their order.
    `prompter` says the text, in a style of `models.prompts`; `own` leaves it to the pipeline, whose text is DAPE's tags
    as in the official evaluation, or what a run was trained for. `prompter_model` is of `classification` and `caption`.
    `added_prompt` and `negative_prompt` None stand for the official ones; the other settings are `SeeSRPipeline`'s.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        name: str = "seesr",
        seed: int = 0,
        scale: int = 4,
        prompter: PromptStyle | Literal["own"] = "own",
        prompter_model: str | Path | None = None,
        prompt: str = "",
        added_prompt: str | None = None,
        negative_prompt: str | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.5,
        guidance_fraction: float = 1.0,
        conditioning_scale: float = 1.0,
        start_from: Literal["lq", "noise"] = "lq",
        color_fix: Literal["adain", "wavelet", "none"] = "adain",
        process_size: int = 512,
        tile: int = 96,
        overlap: int = 4,
        vae_tile: int | None = None,
        tile_batch_size: int = 4,
        recipe: Literal["default", "official"] = "default",
        solver: Literal["own", "ddpm", "ddim", "unipc", "dpmpp"] = "own",
    ) -> None:
        self.name, self.seed, self.pipeline = name, seed, pipeline
        self.prompter: Prompter | None = None
        if prompter != "own":
            self.prompter = make_prompter(prompter, ram=pipeline.ram, model=_name(prompter_model))
        prompts = {"added_prompt": added_prompt, "negative_prompt": negative_prompt}
        self.settings = {
            "prompt": prompt,
            "upscale": scale,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "guidance_fraction": guidance_fraction,
            "conditioning_scale": conditioning_scale,
            "start_from": start_from,
            "color_fix": color_fix,
            "process_size": process_size,
            "tile": tile,
            "overlap": overlap,
            "vae_tile": vae_tile,
            "tile_batch_size": tile_batch_size,
            "recipe": recipe,
            "solver": solver,
            **{key: text for key, text in prompts.items() if text is not None},
        }

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        generator = keyed.torch_generator(self.seed, "restore", name)
        tags = None if self.prompter is None else self.prompter(self._pixels(lq))
        images = self.pipeline(Image.fromarray(lq), generator=generator, tags=tags, **self.settings).images
        return np.asarray(images[0].convert("RGB"))

    def _pixels(self, image: RGB) -> Float[Tensor, "1 3 h w"]:
        return to_float(torch.from_numpy(image.copy())[None]).to(self.pipeline.device)

    @classmethod
    def missing_files(
        cls, prompter: PromptStyle | Literal["own"] = "own", prompter_model: str | Path | None = None
    ) -> list[MissingFile]:
        """The weights of the prompter, where they are not on this machine."""
        return missing_prompt_model(prompter, _name(prompter_model), argument="prompter_model")


def _name(model: str | Path | None) -> str | None:
    return None if model is None else str(model)
