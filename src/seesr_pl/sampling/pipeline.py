"""SeeSR as a diffusers pipeline: pictures in, restored pictures out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from PIL import Image
from torch import Tensor

from seesr_pl.checkpoints.stack import load_stack
from seesr_pl.imaging.color_fix import ColorFix
from seesr_pl.imaging.tensors import to_float, to_uint8
from seesr_pl.models.ram import ram_pixel_values
from seesr_pl.models.stack import SeeSRStack
from seesr_pl.sampling.autoencoder import decode, downscale_factor
from seesr_pl.sampling.denoising import Generators, OnStep, StartFrom, denoise
from seesr_pl.sampling.diffusers_interface import SeeSRPipelineOutput, import_own_parts
from seesr_pl.sampling.inputs import Images, as_rgb, generators_for, groups_of_equal_size, one_each, prompt_text
from seesr_pl.sampling.pictures import PROCESS_SIZE, RGB, Recipe, Work, finish, prepare
from seesr_pl.sampling.presets import ADDED_PROMPT, NEGATIVE_PROMPT
from seesr_pl.sampling.solvers import Solver
from seesr_pl.sampling.solvers import solver as make_solver
from seesr_pl.sampling.start import drawn_start

OnStepEnd = Callable[[DiffusionPipeline, int, Any, dict[str, Tensor]], dict[str, Tensor]]


class SeeSRPipeline(DiffusionPipeline):
    """Restores and enlarges pictures with the parts of a `SeeSRStack`; `scheduler` may be any of diffusers'."""

    model_cpu_offload_seq: Any = "ram->text_encoder->unet->vae"

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: Any,
        controlnet: Any,
        ram: Any,
        scheduler: Any,
    ) -> None:
        super().__init__()
        parts = SeeSRStack(vae, text_encoder, tokenizer, unet, controlnet, ram, scheduler)
        self.register_modules(**parts._asdict())

    @classmethod
    def from_official(
        cls,
        sd_folder: str | Path,
        seesr_folder: str | Path,
        ram_path: str | Path,
        dape_path: str | Path | None = None,
        *,
        tag_list: str | Path | None = None,
        thresholds: str | Path | None = None,
        keep_base_unet: bool = False,
        torch_dtype: torch.dtype = torch.float32,
    ) -> Self:
        """From the published files: a Stable Diffusion folder, SeeSR's `unet/` and `controlnet/`, RAM and DAPE.

        `keep_base_unet` takes only the RCA of SeeSR's UNet, for sd-turbo. `torch_dtype` applies to all but RAM, as in
        the official code.
        """
        stack = load_stack(
            sd_folder,
            seesr=seesr_folder,
            ram=ram_path,
            dape=dape_path,
            tag_list=tag_list,
            thresholds=thresholds,
            keep_base_unet=keep_base_unet,
        )
        networks: tuple[Any, ...] = (stack.vae, stack.text_encoder, stack.unet, stack.controlnet)
        for network in networks:
            torch.nn.Module.to(network, dtype=torch_dtype)  # diffusers' own warns of an empty list
        return cls(*stack)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """As diffusers, from a folder that `save_pretrained` wrote; a single `dtype` leaves RAM in float32."""
        dtype = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", torch.float32)
        kwargs["dtype"] = {"default": dtype, "ram": torch.float32} if isinstance(dtype, torch.dtype) else dtype
        index: Any = cls.load_config(pretrained_model_name_or_path)
        import_own_parts(index.values())
        return cast(Self, super().from_pretrained(pretrained_model_name_or_path, **kwargs))

    @torch.no_grad()
    def __call__(
        self,
        image: Images | Sequence[Images],
        prompt: str | Sequence[str] = "",
        *,
        upscale: float = 4,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.5,
        conditioning_scale: float = 1.0,
        start_from: StartFrom = "lq",
        color_fix: ColorFix = "adain",
        tile: int = 96,
        overlap: int = 4,
        generator: Generators | None = None,
        tags: Sequence[str] | None = None,
        added_prompt: str = ADDED_PROMPT,
        negative_prompt: str = NEGATIVE_PROMPT,
        recipe: Recipe = "default",
        process_size: int = PROCESS_SIZE,
        batch_size: int = 1,
        vae_tile: int | None = None,
        solver: Solver = "own",
        guidance_fraction: float = 1.0,
        guidance_in_one_batch: bool = True,
        tile_batch_size: int = 4,
        cache: bool = True,
        callback_on_step_end: OnStepEnd | None = None,
    ) -> SeeSRPipelineOutput:
        """Restores one picture or several of any sizes; each result is exactly `upscale` times its input.

        Pictures are PIL, uint8 RGB arrays (h, w, 3) or float tensors (3, h, w) in [0, 1]. `prompt` and `tags` are one
        for all or one a picture; `tags` (joined by ", ") replace those that RAM finds. One `generator` serves every
        picture from the same state, so a result depends on (seed, picture) alone; a list gives each its own.
        `batch_size` pictures of equal size are worked on together. Other arguments are those of `denoise`, `prepare`,
        `encode` and `solver`. `recipe="official"` also uses one generator for all pictures in turn, and draws the VAE's
        posterior from torch's global one. ValueError for pictures too large and lists of another length.
        """
        given: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
        pictures = [as_rgb(picture) for picture in given]
        multiple = downscale_factor(self.vae)
        works = [prepare(rgb, upscale, multiple=multiple, recipe=recipe, process_size=process_size) for rgb in pictures]
        prompts = one_each(prompt, len(works), name="prompt")
        given_tags = None if tags is None else one_each(tags, len(works), name="tags")
        own = generators_for(generator, len(works), recipe=recipe)
        loop: dict[str, Any] = {
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "conditioning_scale": conditioning_scale,
            "tile": tile,
            "overlap": overlap,
            "guidance_fraction": guidance_fraction,
            "guidance_in_one_batch": guidance_in_one_batch,
            "tile_batch_size": tile_batch_size,
            "cache": cache,
        }
        images: dict[int, Image.Image] = {}
        seen: dict[int, str] = {}
        groups = list(groups_of_equal_size(works, batch_size))
        progress = self.progress_bar(total=len(groups) * num_inference_steps)
        for rows in groups:
            representation, found = self.look([pictures[row] for row in rows])
            seen.update(zip(rows, found if given_tags is None else [given_tags[row] for row in rows], strict=True))
            texts = [prompt_text(seen[row], prompts[row], added_prompt) for row in rows]
            negatives = [negative_prompt] * len(rows) if guidance_scale > 1 else []
            restored = self._restore(
                [works[row] for row in rows],
                loop | {"prompt_embeds": self.encode_prompts(negatives + texts), "representation": representation},
                scheduler=make_solver(self.scheduler, solver),
                start_from=start_from,
                generator=None if own is None else [own[row] for row in rows],
                recipe=recipe,
                vae_tile=vae_tile,
                on_step=self._on_step(callback_on_step_end, progress),
            )
            for row, result in zip(rows, restored, strict=True):
                images[row] = Image.fromarray(finish(result, works[row], color_fix=color_fix))
        progress.close()
        self.maybe_free_model_hooks()
        order = range(len(works))
        return SeeSRPipelineOutput([images[row] for row in order], [seen[row] for row in order])

    @torch.no_grad()
    def look(self, pictures: Sequence[RGB]) -> tuple[Tensor, list[str]]:
        """What RAM makes of the low-quality pictures themselves: representations (b, n, 512), and tags joined by ", ".

        Each picture is resized to RAM's square, bilinear without antialiasing (test_seesr.py:47-50, 137-138).
        """
        size = self.ram.config.image_size
        pixels = [ram_pixel_values(to_float(torch.from_numpy(rgb[None])), size=size) for rgb in pictures]
        output = self.ram(torch.cat(pixels).to(self._execution_device, self.ram.dtype))
        return output.representation, [", ".join(tags) for tags in self.ram.tags(output.logits)]

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """Last hidden states (b, 77, d) of the text encoder; longer texts are cut."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.text_encoder(ids.to(self._execution_device))[0]

    def _restore(
        self,
        works: Sequence[Work],
        loop: dict[str, Any],
        *,
        scheduler: Any,
        start_from: StartFrom,
        generator: list[torch.Generator] | None,
        recipe: Recipe,
        vae_tile: int | None,
        on_step: OnStep,
    ) -> list[RGB]:
        image = to_float(torch.from_numpy(np.stack([work.picture for work in works]))).to(self._execution_device)
        scheduler.set_timesteps(loop["num_inference_steps"], device=image.device)
        latents = drawn_start(
            self.vae,
            scheduler,
            image=image,
            num_channels=self.unet.config.in_channels,
            is_guided=loop["guidance_scale"] > 1,
            start_from=start_from,
            generator=generator,
            recipe=recipe,
            vae_tile=vae_tile,
        )
        latents = denoise(
            self.unet,
            self.controlnet,
            scheduler,
            latents=latents,
            image=image,
            generator=generator,
            on_step=on_step,
            **loop,
        )
        del image  # as large as what is decoded now
        return list(to_uint8(decode(self.vae, latents, tile=vae_tile)).cpu().numpy())

    def _on_step(self, callback: OnStepEnd | None, progress: Any) -> OnStep:
        def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor:
            progress.update()
            if callback is None:
                return latents
            return callback(self, index, timestep, {"latents": latents}).get("latents", latents)

        return on_step
