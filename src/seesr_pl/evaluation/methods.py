"""Ways to restore an image that can be compared: SeeSR, interpolations, and folders of another method's results."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from seesr_pl import keyed
from seesr_pl.evaluation.benchmark import images_by_stem, require_names
from seesr_pl.files import MissingFile
from seesr_pl.imaging.io import read_rgb
from seesr_pl.imaging.tensors import to_float
from seesr_pl.models.prompts import Prompter, PromptStyle, missing_prompt_model
from seesr_pl.models.prompts import prompter as make_prompter

RGB = UInt8[np.ndarray, "h w 3"]


class Method(Protocol):
    """Restores one image at a time; what comes out depends on the image and its name alone."""

    name: str

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        """The restored image of `lq`, uint8 RGB, `scale` times as large."""
        ...


class Bicubic:
    """Bicubic interpolation with a = -0.75, as OpenCV and torch do it: the lower bound of every table."""

    def __init__(self, *, name: str = "bicubic", scale: int = 4) -> None:
        self.name, self.scale = name, scale

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        height, width = lq.shape[:2]
        return cv2.resize(lq, (width * self.scale, height * self.scale), interpolation=cv2.INTER_CUBIC)


class GaussianBlur:
    """Bicubic interpolation after a Gaussian blur of `sigma` input pixels: removes noise, and detail with it."""

    def __init__(self, *, name: str = "gaussian_blur", scale: int = 4, sigma: float = 0.8) -> None:
        self.name, self.sigma = name, sigma
        self.upscale = Bicubic(scale=scale)

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        return self.upscale(cv2.GaussianBlur(lq, (0, 0), self.sigma), name=name)


class NonLocalMeans:
    """Bicubic interpolation after non-local means denoising of `strength` (8-bit levels) (Buades et al., 2005)."""

    def __init__(self, *, name: str = "nlm", scale: int = 4, strength: float = 5.0) -> None:
        self.name, self.strength = name, strength
        self.upscale = Bicubic(scale=scale)

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        denoised = cv2.fastNlMeansDenoisingColored(lq, None, self.strength, self.strength, 7, 21)
        return self.upscale(denoised, name=name)


class Images:
    """Results of another program: image files in `dir`, named as the benchmark's images are.

    Raises ValueError for a folder that does not exist or holds no image.
    """

    def __init__(self, dir: str, *, name: str = "images") -> None:
        self.name = name
        self.folder = Path(dir).expanduser()
        self.paths = images_by_stem(self.folder, key="method.dir")

    def __call__(self, lq: RGB, *, name: str) -> RGB:
        self.require([name])
        return read_rgb(self.paths[name])

    def require(self, names: Iterable[str]) -> None:
        """Raise ValueError that lists every image of `names` that the folder lacks."""
        require_names(dict.fromkeys(names), self.paths, f"method.dir={self.folder}")

    @classmethod
    def missing_files(cls, dir: str) -> list[MissingFile]:
        """The folder, where it does not exist."""
        if Path(dir).expanduser().is_dir():
            return []
        return [MissingFile(dir, "the results of the method to judge, one image a file", "method.dir=FOLDER")]


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
        prompter_model: str | None = None,
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
            self.prompter = make_prompter(prompter, ram=pipeline.ram, model=prompter_model)
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
        cls, prompter: PromptStyle | Literal["own"] = "own", prompter_model: str | None = None
    ) -> list[MissingFile]:
        """The weights of the prompter, where they are not on this machine."""
        return missing_prompt_model(prompter, prompter_model, argument="prompter_model")
