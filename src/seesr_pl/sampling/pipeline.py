"""SeeSR as a diffusers pipeline: images in, restored images out."""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from PIL import Image
from torch import Tensor

from seesr_pl.checkpoints.stack import load_stack
from seesr_pl.imaging.io import groups_of_equal_size
from seesr_pl.imaging.tensors import to_float, to_uint8
from seesr_pl.models.denoiser import decode, downscale_factor, embed
from seesr_pl.models.prompts import Prompter, PromptStyle, tag_texts
from seesr_pl.models.prompts import prompter as make_prompter
from seesr_pl.models.stack import SeeSRStack, cast_all_but_ram, import_parts, stock_parts
from seesr_pl.sampling import images
from seesr_pl.sampling.denoising import Generators, OnStep, denoise, drawn_start, fresh_scheduler
from seesr_pl.sampling.images import RGB, AnyImage, Restored, Work
from seesr_pl.sampling.settings import OFFICIAL, Sampling

Representation = Literal["dape", "ram", "none"]
"""Of the LQ image: RAM's with its LoRA (DAPE), plain RAM's, or one token of zeros, which carries no information."""
OnStepEnd = Callable[[DiffusionPipeline, int, Any, dict[str, Tensor]], dict[str, Tensor]]
"""diffusers' `callback_on_step_end`: (pipeline, index, timestep, {"latents"}) to a dict that may replace latents."""
CLASS_NAME = "seesr_pl.sampling.SeeSRPipeline"
"""The class that a saved pipeline names in `model_index.json`."""
# The settings that `denoise` takes; its scheduler is diffusers' object.
_LOOP = [name for name in inspect.signature(denoise).parameters if name != "scheduler" and hasattr(OFFICIAL, name)]


@dataclass
class SeeSRPipelineOutput(BaseOutput):
    """Restored images, and for each the tags in its prompt, joined by ", "."""

    images: list[Image.Image]
    tags: list[str]


class SeeSRPipeline(DiffusionPipeline):
    """Restores and enlarges images with the parts of a `SeeSRStack`; `scheduler` may be any of diffusers'.

    `save_pretrained` keeps the other arguments too, so that a pipeline restores as the run that it came from.

    Args:
        representation: of the LQ image, for RCA (see `Representation`); with "ram" the tags are plain RAM's too.
        prompter: the source of the text, a style of `models.prompts`; "own" is the tags that `ram` finds.
        prompter_model: of "classification" and "caption": a folder, or a name on the Hugging Face hub.
        sampler: settings of the pipeline's own `sampling` that differ from the official ones.

    Raises ValueError for an unknown representation, style or setting.
    """

    model_cpu_offload_seq: Any = "text_encoder->unet->vae"
    # RAM is asked by its methods, which the hooks of diffusers do not see; the ControlNet runs at each step.
    _exclude_from_cpu_offload: Any = ("ram",)

    def __init__(
        self,
        vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, controlnet: Any, ram: Any, scheduler: Any,
        # diffusers checks saved values against these annotations, and knows plain classes only.
        representation: str = "dape",
        prompter: str = "own",
        prompter_model: str | None = None,
        sampler: dict | None = None,  # type: ignore[type-arg]  # as above
    ) -> None:  # fmt: skip
        super().__init__()
        if representation not in get_args(Representation):
            raise ValueError(f"representation={representation!r} is not one of {', '.join(get_args(Representation))}")
        parts = SeeSRStack(vae, text_encoder, tokenizer, unet, controlnet, ram, scheduler)
        self.register_modules(**parts._asdict())
        self.register_to_config(representation=representation, sampler=dict(sampler or {}))
        self.sampling = OFFICIAL.changed(sampler or {})
        self.describe_by(prompter, model=prompter_model)
        self._interrupt = False

    @property
    def interrupt(self) -> bool:
        """Whether the present call ends its steps early: a callback sets `pipeline._interrupt`, as in diffusers."""
        return self._interrupt

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
        """Return a pipeline of published files: Stable Diffusion, SeeSR's `unet/` and `controlnet/`, RAM and DAPE.

        `keep_base_unet` takes only the RCA of SeeSR's UNet, for sd-turbo. `torch_dtype` applies to all but RAM, as in
        the official code.
        """
        ram: dict[str, Any] = {"ram": ram_path, "dape": dape_path, "tag_list": tag_list, "thresholds": thresholds}
        stack = load_stack(sd_folder, seesr=seesr_folder, **ram, keep_base_unet=keep_base_unet)
        cast_all_but_ram(stack, torch_dtype)
        return cls(*stack)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """As diffusers, but a single `dtype` leaves RAM in float32, and an fp16 variant is found without `variant`."""
        dtype = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", torch.float32)
        types: Any = {"default": dtype, "ram": torch.float32} if isinstance(dtype, torch.dtype) else dtype
        if not kwargs.get("variant"):
            kwargs |= stock_parts(pretrained_model_name_or_path, types, given=kwargs)
        kwargs["dtype"] = types
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As diffusers, but that the parts of ours are where they are looked for (`import_parts`)."""
        config = super().load_config(*args, **kwargs)
        import_parts(config[0] if isinstance(config, tuple) else config)
        return config

    def to_json_string(self) -> str:
        """Return the content of `model_index.json`; its class name says where to import the class from."""
        # DiffusionPipeline.from_pretrained looks for the class in diffusers alone; its error then names this one.
        return json.dumps(json.loads(super().to_json_string()) | {"_class_name": CLASS_NAME}, indent=2) + "\n"

    def describe_by(self, prompter: str, *, model: str | None = None) -> None:
        """Replace the prompter; arguments, and the errors raised, as in the class."""
        self.register_to_config(prompter=prompter, prompter_model=model)
        self._describe: Prompter | None = (
            None if prompter == "own" else make_prompter(cast(PromptStyle, prompter), ram=self.ram, model=model)
        )

    def merge_lora(self) -> None:
        """Merge DAPE's LoRA into RAM unless plain RAM is asked for; the pipeline then only restores (`RAM`)."""
        if "ram" not in (self.config["representation"], self.config["prompter"]):
            self.ram.merge_lora()

    @torch.no_grad()
    def __call__(
        self,
        image: AnyImage | Sequence[AnyImage],
        prompt: str | Sequence[str] | None = None,
        *,
        tags: str | Sequence[str | None] | None = None,
        generator: Generators | None = None,
        callback_on_step_end: OnStepEnd | None = None,
        sampling: Sampling | None = None,
        **changes: Any,
    ) -> SeeSRPipelineOutput:
        """Restore one image or several of any sizes; each result is exactly `upscale` times its input.

        Args:
            image: PIL, uint8 RGB arrays ([b,] h, w, 3) or float tensors ([b,] 3, h, w) in [0, 1].
            prompt: words after the tags, one text for all images or one for each; None is the setting's.
            tags: joined by ", ", one text for all images or one for each, in place of those that are found; None finds.
            generator: a single one starts from the same state for every image, so a result depends on (seed, image)
                alone; a list holds one for each image. Under `recipe="official"` a single one serves all images, one
                after another, and the noise of the VAE's posterior comes from torch's global generator.
            callback_on_step_end: as in diffusers; `pipeline._interrupt = True` in it skips all steps that are left.
            sampling: the settings; None takes the pipeline's own `sampling`.
            **changes: settings of `Sampling` by name, which take the place of those of `sampling`.

        Raises ValueError for an unknown setting or value, an image too large, and a list of another length.
        """
        settings = (sampling or self.sampling).changed(changes)
        self._interrupt = False
        rgbs = images.each_image(image)
        works = [self._work(rgb, settings) for rgb in rgbs]
        prompts = [_first(one, settings.prompt) for one in images.one_each(prompt, len(works), name="prompt")]
        told = images.one_each(tags, len(works), name="tags")
        own = images.generators_for(generator, len(works), recipe=settings.recipe)
        groups = [[row] for row in range(len(works))]
        if settings.recipe != "official":  # which draws for one image after another
            groups = list(groups_of_equal_size([work.image.shape for work in works], settings.batch_size))
        results: dict[int, Restored] = {}
        progress = self.progress_bar(total=len(groups) * settings.num_inference_steps)
        for rows in groups:
            representation, seen = self.look([rgbs[row] for row in rows])
            texts = [_first(told[row], found) for row, found in zip(rows, seen, strict=True)]
            restored = self._restore(
                [works[row] for row in rows],
                [
                    images.prompt_text(text, prompts[row], settings.added_prompt)
                    for row, text in zip(rows, texts, strict=True)
                ],
                representation,
                settings=settings,
                generator=None if own is None else [own[row] for row in rows],
                on_step=self._on_step(callback_on_step_end, progress),
            )
            results |= {row: Restored(rgb, text) for row, rgb, text in zip(rows, restored, texts, strict=True)}
        progress.close()
        self.maybe_free_model_hooks()
        in_order = [results[row] for row in range(len(works))]
        return SeeSRPipelineOutput([Image.fromarray(one.rgb) for one in in_order], [one.tags for one in in_order])

    @torch.no_grad()
    def look(self, rgbs: Sequence[RGB]) -> tuple[Tensor, list[str]]:
        """Return representations (b, n, 512) and tags of LQ images, uint8 RGB (h, w, 3) of any sizes.

        Each image is resized to RAM's square as it is, not enlarged first (test_seesr.py:47-50, 137-138).
        """
        lq = [to_float(torch.from_numpy(rgb[None])).to(self._execution_device) for rgb in rgbs]
        seen = self.ram.see(lq, adapter=self.config["representation"] != "ram")
        representation = seen.representation
        if self.config["representation"] == "none":
            representation = torch.zeros_like(representation[:, :1])
        if self._describe is None:
            return representation, tag_texts(self.ram, seen.logits)
        return representation, [text for image in lq for text in self._describe(image)]

    @torch.no_grad()
    def ranked_tags(self, rgb: RGB) -> list[str]:
        """Return the tags in the prompt of an LQ image, uint8 RGB (h, w, 3), that which RAM is surest of first.

        For prompters that are tags: own, ram, dape.
        """
        image = to_float(torch.from_numpy(rgb[None])).to(self._execution_device)
        style = self.config["representation"] if self.config["prompter"] == "own" else self.config["prompter"]
        logits = self.ram.see(image, adapter=style != "ram").logits
        order = logits[0].argsort(descending=True).tolist()
        on = self.ram.tag_mask(logits)[0].tolist()
        return [self.ram.tag_names[index] for index in order if on[index]]

    def _work(self, rgb: RGB, settings: Sampling) -> Work:
        multiple, size = downscale_factor(self.vae), settings.process_size
        work = images.prepare(rgb, settings.upscale, multiple=multiple, recipe=settings.recipe, process_size=size)
        images.check_tiles(work, multiple, tile=settings.tile, overlap=settings.overlap)
        return work

    def _restore(
        self,
        works: Sequence[Work],
        texts: Sequence[str],
        representation: Tensor,
        *,
        settings: Sampling,
        generator: list[torch.Generator] | None,
        on_step: OnStep,
    ) -> list[RGB]:
        """Restore images of one size, each under its text."""
        is_guided = settings.guidance_scale > 1
        negatives = [settings.negative_prompt] * len(works) if is_guided else []
        prompt_embeds = embed(self.tokenizer, self.text_encoder, [*negatives, *texts])
        image = to_float(torch.from_numpy(np.stack([work.image for work in works]))).to(self._execution_device)
        scheduler = fresh_scheduler(self.scheduler, settings.scheduler)
        scheduler.set_timesteps(settings.num_inference_steps, device=image.device)
        latents = drawn_start(
            self.vae,
            scheduler,
            image=image,
            num_channels=self.unet.config.in_channels,
            is_guided=is_guided,
            start_from=settings.start_from,
            generator=generator,
            recipe=settings.recipe,
            vae_tile=settings.vae_tile,
        )
        latents = denoise(
            self.unet,
            self.controlnet,
            scheduler,
            latents=latents,
            prompt_embeds=prompt_embeds,
            representation=representation,
            image=image,
            generator=generator,
            on_step=on_step,
            is_interrupted=lambda: self.interrupt,
            **{name: getattr(settings, name) for name in _LOOP},
        )
        del image  # as large as what is decoded now
        decoded = to_uint8(decode(self.vae, latents, tile=settings.vae_tile)).cpu().numpy()
        return [
            images.finish(rgb, work, color_fix=settings.color_fix) for rgb, work in zip(decoded, works, strict=True)
        ]

    def _on_step(self, callback: OnStepEnd | None, progress: Any) -> OnStep:
        def on_step(index: int, timestep: Tensor, latents: Tensor) -> Tensor:
            progress.update()
            if callback is None:
                return latents
            return callback(self, index, timestep, {"latents": latents}).get("latents", latents)

        return on_step


def _first(told: str | None, found: str) -> str:
    return found if told is None else told
